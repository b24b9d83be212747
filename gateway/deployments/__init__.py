"""Plans where replicas fit, and makes deployment jobs. The agents run them."""
