//! What the fuzz targets share: messages as liars form them, and a state machine.

pub mod hostile;
pub mod state;
