"""The keys of a training run as ``--help`` and ``--help-all`` group them. A test wants each key in one group."""

SOURCE_FLAGS = "config preset trust_features"

GROUPS = {
    "data": "dataset data_dir image_size nc conditional flips skip_damaged workers radius deviation",
    "model": "model network ngf ndf nz activation loss d2gan_alpha d2gan_beta ema ema_half_life ema_ramp_up",
    "discriminators": "discriminators pairing weighting softmax_lambda softmax_gradient softmax_challenge "
    "hypervolume_slack dropout_rate bandit_alpha bandit_kappa views microbatch_alpha duel_beta duel_alpha penalty "
    "lecam_start augment ada_target ada_length ada_p ada_ramp_up discriminator_norm sharded swap_every",
    "training": "batch_size grad_accum_steps epochs max_steps lr lr_scaling beta1 beta2 lr_d beta1_d beta2_d d_steps "
    "schedule seed device precision deterministic compile cuda_graph sync_batchnorm timeout",
    "evaluation": "evaluate_every num_samples metrics reference features inception_weights generator protocol",
    "output": "out checkpoint log_every sample_every diagnostics track tensorboard",
}

USUAL = {
    "config": "read this .ini file",
    "preset": "or these values (`d3gan presets`)",
    "dataset": "a name (`d3gan data list`), a folder or a .zip",
    "image_size": "side of the images in pixels",
    "conditional": "train on the images' labels too",
    "augment": "color,translation,cutout, or ada",
    "model": "the GAN (`d3gan models`)",
    "network": "dcgan, sndcgan, resnet or r3gan",
    "ngf": "width of the generator",
    "ndf": "width of each discriminator",
    "discriminators": "how many",
    "weighting": "who trains the generator",
    "batch_size": "images at once, per process",
    "epochs": "passes over the images",
    "max_steps": "end earlier, after so many steps",
    "lr": "learning rate",
    "seed": "of weights, order and latents",
    "device": "auto, cpu, cuda, cuda:N or mps",
    "precision": "auto, bf16, float32 or float64",
    "evaluate_every": "steps between evaluations; 0: none",
    "metrics": "fid, is, kid, prdc, modes",
    "out": "run directory; resumes the run in it",
    "sample_every": "steps between pictures; 0: each epoch",
    "workers_per_node": "processes to start; auto: one per GPU",
}
