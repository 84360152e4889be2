"""One API dialect each: pure functions between its JSON and our requests and events."""
