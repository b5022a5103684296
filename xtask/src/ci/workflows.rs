//! GitHub's workflows, as far as that can be seen without GitHub: what they name is there, their
//! scripts are good shell, and no job may do more than it says why.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use clap::CommandFactory;
use serde_json::Value;

use crate::Cli;
use crate::workspace::root;

const FOLDER: &str = ".github/workflows";

fn workflows() -> BTreeMap<String, Value> {
    let entries = fs::read_dir(root().join(FOLDER)).unwrap();
    let read = |path: std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, value)
    };
    entries.map(|entry| read(entry.unwrap().path())).collect()
}

/// A job with where it is from.
struct Job {
    at: String,
    name: String,
    workflow: Value,
    value: Value,
}

fn jobs() -> Vec<Job> {
    let mut all = Vec::new();
    for (file, workflow) in workflows() {
        for (name, value) in workflow["jobs"].as_object().unwrap() {
            all.push(Job {
                at: format!("{file}: {name}"),
                name: name.clone(),
                workflow: workflow.clone(),
                value: value.clone(),
            });
        }
    }
    all
}

impl Job {
    fn steps(&self) -> Vec<&Value> {
        self.value["steps"].as_array().into_iter().flatten().collect()
    }

    fn scripts(&self) -> Vec<&str> {
        self.steps().into_iter().filter_map(|step| step["run"].as_str()).collect()
    }

    fn needs(&self) -> Vec<&str> {
        match &self.value["needs"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

#[test]
fn there_are_those_that_contributing_expects() {
    let files: Vec<String> = workflows().into_keys().collect();
    assert_eq!(files, ["ci.yml", "images.yml", "release.yml"]);
}

#[test]
fn jobs_need_jobs_that_are_there_and_end() {
    for job in jobs() {
        let known = job.workflow["jobs"].as_object().unwrap();
        for needed in job.needs() {
            assert!(known.contains_key(needed) && needed != job.name, "{} needs {needed}", job.at);
        }
        if job.value.get("uses").is_none() {
            assert!(job.value["runs-on"].is_string(), "{} runs nowhere", job.at);
            assert!(job.value["timeout-minutes"].as_u64().is_some(), "{} may hang", job.at);
            assert!(!job.steps().is_empty(), "{} does nothing", job.at);
        }
    }
}

/// Whoever can change a step of a workflow gets what it may do.
#[test]
fn rights_are_read_only_unless_a_job_asks() {
    for (file, workflow) in workflows() {
        let rights = workflow["permissions"].as_object().expect("permissions");
        assert_eq!(rights.len(), 1, "{file}");
        assert_eq!(rights["contents"], "read", "{file}");
        assert!(workflow["concurrency"]["group"].is_string(), "{file}");
    }
    let writes: BTreeSet<String> = jobs()
        .iter()
        .flat_map(|job| {
            let rights = job.value["permissions"].as_object().cloned().unwrap_or_default();
            let written = rights.into_iter().filter(|(_, right)| right == "write");
            written.map(|(right, _)| format!("{} {right}", job.at)).collect::<Vec<_>>()
        })
        .collect();
    let expected = [
        "images.yml: image id-token",
        "images.yml: image packages",
        "release.yml: chart id-token",
        "release.yml: chart packages",
        "release.yml: images id-token",
        "release.yml: images packages",
        "release.yml: release attestations",
        "release.yml: release contents",
        "release.yml: release id-token",
    ];
    assert_eq!(writes.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn actions_are_pinned_and_keep_no_credentials() {
    let is_version = |version: &str| {
        let number = version.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok());
        number || (version.len() == 40 && version.chars().all(|c| c.is_ascii_hexdigit()))
    };
    for job in jobs() {
        let used = job.steps().into_iter().filter_map(|step| step["uses"].as_str());
        for used in used.chain(job.value["uses"].as_str()) {
            if let Some(path) = used.strip_prefix("./") {
                assert!(root().join(path).is_file(), "{}: {used}", job.at);
                continue;
            }
            let (_, version) = used.split_once('@').expect("a version");
            assert!(is_version(version), "{}: {used}", job.at);
        }
        for step in job.steps() {
            if step["uses"].as_str().is_some_and(|used| used.starts_with("actions/checkout@")) {
                assert_eq!(step["with"]["persist-credentials"], false, "{}", job.at);
            }
        }
    }
}

/// What others may write (a branch's name, a title) is data for a script, and no part of it.
#[test]
fn scripts_have_no_expressions_in_them() {
    for job in jobs() {
        for script in job.scripts() {
            assert!(!script.contains("${{"), "{}: pass it by `env`: {script}", job.at);
        }
    }
}

fn passes(program: &str, arguments: &[&str], script: &str) -> Option<Result<(), String>> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.ok()?;
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Some(if output.status.success() { Ok(()) } else { Err(said) })
}

#[test]
fn scripts_are_good_shell() {
    let mut checked = 0;
    for job in jobs() {
        for script in job.scripts() {
            let parsed = passes("bash", &["-n"], script).expect("bash");
            assert_eq!(parsed, Ok(()), "{}", job.at);
            let Some(linted) = passes("shellcheck", &["--shell=bash", "-"], script) else {
                let line = "SKIPPED scripts_are_good_shell: shellcheck is not installed";
                writeln!(std::io::stderr(), "{line}").expect("standard error");
                return;
            };
            assert_eq!(linted, Ok(()), "{}:\n{script}", job.at);
            checked += 1;
        }
    }
    assert!(checked > 5, "{checked}");
}

/// Files, packages of the workspace and commands of this program that scripts name.
#[test]
fn scripts_name_what_is_there() {
    let cli = Cli::command();
    for job in jobs() {
        for script in job.scripts() {
            let words: Vec<&str> = script.split_whitespace().collect();
            for (at, word) in words.iter().enumerate() {
                let next = words.get(at + 1).copied().unwrap_or_default();
                match *word {
                    "xtask" => assert!(cli.find_subcommand(next).is_some(), "{}: {next}", job.at),
                    "--package" => {
                        assert!(
                            root().join(next).join("Cargo.toml").is_file(),
                            "{}: {next}",
                            job.at
                        );
                    }
                    path if ["deploy/", ".ci/", "packaging/"]
                        .iter()
                        .any(|top| path.starts_with(top)) =>
                    {
                        assert!(root().join(path).exists(), "{}: {path}", job.at);
                    }
                    _ => {}
                }
            }
        }
        for step in job.steps() {
            let target = step["with"]["target"].as_str().filter(|target| !target.contains("${{"));
            let matrix = job.value["strategy"]["matrix"]["include"].as_array();
            let of_matrix = matrix.into_iter().flatten().filter_map(|row| row["target"].as_str());
            let dockerfile = fs::read_to_string(root().join("Dockerfile")).unwrap();
            for target in of_matrix.chain(target) {
                assert!(dockerfile.contains(&format!(" AS {target}\n")), "{}: {target}", job.at);
            }
        }
    }
}

#[test]
fn dependabot_moves_on_what_is_pinned() {
    let text = fs::read_to_string(root().join(".github/dependabot.yml")).unwrap();
    let dependabot: Value = serde_saphyr::from_str(&text).unwrap();
    let updates = dependabot["updates"].as_array().unwrap();
    let ecosystems: BTreeSet<&str> =
        updates.iter().filter_map(|update| update["package-ecosystem"].as_str()).collect();
    assert_eq!(ecosystems, BTreeSet::from(["cargo", "docker", "github-actions"]));
    let folders = updates.iter().flat_map(|update| update["directories"].as_array());
    for folder in folders.flatten().filter_map(Value::as_str) {
        let manifest = root().join(folder.trim_start_matches('/')).join("Cargo.toml");
        assert!(manifest.is_file(), "{folder}");
    }
}
