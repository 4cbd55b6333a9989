//! Checks that the README's program is the example's, and that CI runs the README's commands.

const README: &str = include_str!("../../README.md");
const EXAMPLE: &str = include_str!("../../examples/embed.rs");
const CI: &str = include_str!("../../.ci/run");

/// Returns the first block of the README fenced as `kind`.
fn block(kind: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("```{kind}\n")).unwrap_or_default();
    rest.split_once("```").unwrap_or_default().0
}

#[test]
fn the_readmes_program_is_the_examples_word_for_word() {
    let (_, rest) = EXAMPLE.split_once("// README: begin\n").unwrap_or_default();
    let (shown, _) = rest.split_once("    // README: end").unwrap_or_default();
    let outdented = |line: &str| format!("{}\n", line.strip_prefix("    ").unwrap_or(line));
    let shown: String = shown.lines().map(outdented).collect();
    assert!(shown.lines().count() >= 5, "the example has no block between the marks");
    assert_eq!(block("rust"), shown);
}

#[test]
fn the_readmes_commands_are_run_by_ci() {
    let commands: Vec<_> = block("sh").lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(commands.len(), 2, "two commands: {commands:?}");
    for command in commands {
        // CI requires the lock file.
        let locked = command.replacen("cargo run", "cargo run --locked", 1);
        let locked = locked.replacen("cargo test", "cargo test --locked", 1);
        assert!(CI.lines().any(|line| line == format!("step {locked}")), "not run: {command}");
    }
}
