"""What tests share: a relay and a worker as processes, a fake of the other side for each, and an SSE client."""
