"""What data sets share: tables of images, index draws, downloads."""
