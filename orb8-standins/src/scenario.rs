//! What NVML's stand-in can play.

/// A scenario: a text that says which devices there are and what happens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// The file's content; see the README for what it says.
    pub text: &'static str,
}

/// Returns all scenarios that come with this crate, by name.
#[must_use]
pub const fn scenarios() -> &'static [Scenario] {
    include!(concat!(env!("OUT_DIR"), "/scenarios.rs"))
}

/// Returns a scenario by its name.
#[must_use]
pub fn scenario(name: &str) -> Option<Scenario> {
    scenarios().iter().copied().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_tells_of_every_scenario() {
        let readme = include_str!("../README.md");
        assert!(scenarios().len() > 5);
        for Scenario { name, text } in scenarios() {
            assert!(
                readme.contains(&format!("\n| `{name}` | ")),
                "add a row for {name} to README.md"
            );
            assert!(text.starts_with("# "), "{name} begins with what it is");
        }
    }
}
