"""What takes long to make and is kept, in memory or under the cache folder: arrays, decoded images, encoded rows."""
