"""The page of `d3gan report`: one HTML file made of run directories, which needs nothing beside itself."""
