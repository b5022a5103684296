//! The README's test command must be the one that CI runs.

use anyhow::{Context, Result, ensure};

use crate::workspace::root;

/// Compares the command in the first fenced block below the README's heading about tests.
pub(crate) fn check(command: &str) -> Result<()> {
    let path = root().join("README.md");
    let text = std::fs::read_to_string(&path).context("reading README.md")?;
    let found = test_command(&text).context("README.md has no heading about tests with a block")?;
    ensure!(found == command, "README.md says `{found}`, CI runs `{command}`");
    println!("README.md says `{command}`, and so does CI");
    Ok(())
}

fn test_command(readme: &str) -> Option<String> {
    let is_heading = |line: &&str| line.starts_with('#') && line.to_lowercase().contains("test");
    let mut lines = readme.lines().skip_while(|line| !is_heading(line)).skip(1);
    lines.by_ref().find(|line| line.starts_with("```"))?;
    let block: Vec<&str> = lines.take_while(|line| !line.starts_with("```")).collect();
    Some(block.join("\n").trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::test_command;

    #[test]
    fn finds_the_block_below_the_heading() {
        let readme = "# x\n```sh\nno\n```\n## Run the tests\nAs root:\n```sh\ncargo test\n```\n";
        assert_eq!(test_command(readme).as_deref(), Some("cargo test"));
        assert_eq!(test_command("# x\n```\ncargo test\n```\n"), None);
    }
}
