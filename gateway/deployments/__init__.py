"""Plans what fits where, places it and asks for it. The agents carry it out."""
