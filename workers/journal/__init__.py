"""From claimed jobs to their journals: claims, quarantine, and the one writer of a process."""
