"""Result files on disk, read back as rows. No torch here."""
