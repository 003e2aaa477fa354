"""The page of `d3gan report`: one self-contained HTML file about run directories."""
