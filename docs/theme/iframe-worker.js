// Search runs in a worker, and a browser starts none for a page that is a file on a disk. There this class takes the
// worker's place: it runs the same script in a frame without contents, and hands messages back and forth.
if (location.protocol === "file:") {
  window.Worker = class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "search";
      document.body.append(frame);
      const inside = frame.contentWindow;
      // The script's own postMessage speaks to the page.
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.script = new Promise((resolve) => {
        const script = frame.contentDocument.createElement("script");
        script.onload = () => resolve(inside);
        script.src = url;
        frame.contentDocument.body.append(script);
      });
    }

    postMessage(data) {
      this.script.then((inside) => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
    }
  };
}
