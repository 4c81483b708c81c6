//! The tool: everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    fencepost::cli::main(std::env::args_os())
}
