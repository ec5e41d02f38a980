"""The node agent: brings model weights to its node before a replica asks for them."""
