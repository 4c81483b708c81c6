//! The command line: what was typed, and which room does it.
//!
//! Never: holds protocol or checking logic.
