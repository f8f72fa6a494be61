"""What travels: frames as values, close codes; pure, with no Twisted, clock or environment."""
