"""For our tests, the demo, the benches and authors of plug-ins; needs the extra ``testing``."""
