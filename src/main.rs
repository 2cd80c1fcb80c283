//! Arguments → one command.

fn main() -> std::process::ExitCode {
    belay::cli::main()
}
