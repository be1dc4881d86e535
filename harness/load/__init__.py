"""The load generator: replays a trace against any OpenAI-compatible server, and tells what came back and when."""
