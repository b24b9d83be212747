"""What OpenAI's clients send below `/v1`, in our words. Strict schemas load what comes out."""
