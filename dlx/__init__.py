"""DLX, the station de diffusion: validated laboratory reports to each recipient."""

__version__ = "0.1.0"
