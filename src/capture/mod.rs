//! Packets to exchanges and exchanges to packets; its pcapng writer is a `Tap`.
//!
//! Never: interprets what it carries.
