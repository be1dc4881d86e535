"""What a sweep file says, and the cells it stands for."""
