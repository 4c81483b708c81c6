//! The only code that turns an error code or a connection's fate into ok, fail or info.
