fn main() -> std::process::ExitCode {
    mente::main()
}
