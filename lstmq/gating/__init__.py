"""One gated session of pytest. ``lstmq/pytest_plugin.py`` imports these modules when a test first uses the gate."""
