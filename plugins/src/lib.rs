//! The plugins of heliograph.
