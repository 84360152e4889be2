"""Where models live on this machine, and by which names."""
