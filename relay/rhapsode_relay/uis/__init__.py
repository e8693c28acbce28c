"""Protocols of user interfaces: AG-UI, and the message streams of Vercel's AI SDK."""
