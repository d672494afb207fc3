//! What the fuzz targets share: messages as liars form them.

pub mod hostile;
