"""What a release must hold before it is published: one gate per statement."""
