"""Control of the excitation: what a window shows, what a law wishes, what the guard allows."""
