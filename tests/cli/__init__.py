"""The commands, in this process and in processes of their own."""
