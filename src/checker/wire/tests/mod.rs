//! Planted violations and near misses.
