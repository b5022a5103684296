//! The Dockerfile, by the rules that its linters have, and that it and the manifests mean one image.

use std::collections::BTreeSet;

use serde_json::Value;

use super::documents::{all, daemonset, documents, root, text};
use super::kustomize::Kustomization;

/// An instruction with its continuation lines.
struct Instruction {
    word: String,
    rest: String,
}

fn dockerfile() -> Vec<Instruction> {
    let joined = text("Dockerfile").replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (word, rest) = line.split_once(' ').unwrap();
            Instruction { word: word.to_owned(), rest: rest.trim().to_owned() }
        })
        .collect()
}

fn of<'a>(instructions: &'a [Instruction], word: &str) -> Vec<&'a str> {
    let matching = instructions.iter().filter(|instruction| instruction.word == word);
    matching.map(|instruction| instruction.rest.as_str()).collect()
}

/// A digest, or a tag that names a release: neither `latest` nor only a series.
fn is_pinned(image: &str) -> bool {
    if let Some((_, digest)) = image.split_once("@sha256:") {
        return digest.len() == 64 && digest.chars().all(|c| c.is_ascii_hexdigit());
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    let tag = name.split_once(':').map(|(_, tag)| tag);
    tag.is_some_and(|tag| tag.contains('.') && tag.starts_with(|c: char| c.is_ascii_digit()))
}

#[test]
fn images_are_built_from_releases() {
    let instructions = dockerfile();
    let from = of(&instructions, "FROM");
    assert!(from.len() >= 2);
    for line in from {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        // The compiler runs where the image is built, whatever it is built for.
        words.retain(|word| *word != "--platform=$BUILDPLATFORM");
        let [image, "AS", _] = words.as_slice() else { panic!("FROM {line}: name the stage") };
        assert!(*image == "scratch" || is_pinned(image), "FROM {line}");
    }
    assert!(is_pinned(&format!("gcr.io/a/b:c@sha256:{}", "0".repeat(64))));
    assert!(!is_pinned("gcr.io/a/b:1.2@sha256:0"));
    assert!(is_pinned("debian:12.12-slim") && is_pinned("host:5000/a/rust:1.95.0"));
    assert!(!is_pinned("debian") && !is_pinned("debian:latest") && !is_pinned("host:5000/debian"));
    assert!(!is_pinned("debian:bookworm-slim") && !is_pinned("debian:12"));
}

#[test]
fn the_compiler_is_the_checkouts() {
    let channel = text("rust-toolchain.toml");
    let channel = channel.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap();
    let build = format!("rust:{}-", channel.trim_matches('"'));
    let instructions = dockerfile();
    assert!(of(&instructions, "FROM")[0].contains(&build), "{build}");
}

/// The stages that follow it copy what it made; a name or a path that is wrong fails there only.
#[test]
fn stages_copy_what_an_earlier_one_has() {
    let instructions = dockerfile();
    let mut earlier = Vec::new();
    let installed = of(stage(&instructions, "build"), "RUN").join(" ");
    for Instruction { word, rest } in &instructions {
        if word == "FROM" {
            earlier.push(rest.rsplit(' ').next().unwrap());
        }
        let Some(from) = rest.split("--from=").nth(1).filter(|_| word == "COPY") else { continue };
        let from = from.split(' ').next().unwrap();
        assert!(earlier[..earlier.len() - 1].contains(&from), "{rest}");
        let files = rest.split(' ').filter(|word| word.starts_with("/out/"));
        for (folder, name) in files.map(|file| file.rsplit_once('/').unwrap()) {
            let is_named = installed.contains(&format!("{folder}/{name}"));
            let is_moved = installed.contains(&format!("-t {folder} "))
                && installed.contains(&format!("/release/{name}\""));
            assert!(is_named || is_moved, "nothing makes {folder}/{name}");
        }
    }
}

/// Cross-compilation: the builder's architecture compiles, and both targets are ones that the licences
/// are checked for.
#[test]
fn nothing_is_emulated() {
    let instructions = dockerfile();
    let from = of(&instructions, "FROM");
    assert!(from[0].starts_with("--platform=$BUILDPLATFORM "), "{}", from[0]);
    for stage_name in ["binaries", "cli", "agent"] {
        assert!(of(stage(&instructions, stage_name), "RUN").is_empty(), "{stage_name} runs code");
    }
    let build = of(stage(&instructions, "build"), "RUN").join(" ");
    let deny: toml::Table = text("deny.toml").parse().unwrap();
    for target in deny["graph"]["targets"].as_array().unwrap() {
        let cpu = target.as_str().unwrap().strip_suffix("-unknown-linux-gnu").unwrap();
        assert!(build.contains(&format!("cpu={cpu} ;;")), "{cpu}");
    }
    let packages = build.matches("cargo build").count();
    assert_eq!(packages, build.matches("--target \"$target\"").count());
    for package in build.split("--package ").skip(1) {
        let package = package.split_whitespace().next().unwrap();
        assert!(root().join(package).join("src/main.rs").is_file(), "{package} has no program");
    }
}

/// What hadolint would find.
#[test]
fn instructions_leave_nothing_behind_and_fetch_nothing_unseen() {
    let known = ["FROM", "ARG", "WORKDIR", "COPY", "RUN", "LABEL", "USER", "EXPOSE", "ENTRYPOINT"];
    let instructions = dockerfile();
    for Instruction { word, rest } in &instructions {
        assert!(known.contains(&word.as_str()), "{word}: ADD fetches, CMD and ENV are not used");
        assert!(!rest.contains("curl ") && !rest.contains("wget "), "{word} {rest}");
        if rest.contains("apt-get install") {
            assert!(rest.contains("--no-install-recommends"), "{rest}");
            assert!(rest.contains("rm -rf /var/lib/apt/lists/*"), "{rest}");
        }
        if word == "COPY" && rest.contains("--from=") {
            assert!(rest.contains("--chown=0:0") && rest.contains("--chmod=0755"), "{rest}");
        }
        if word == "RUN" && rest.contains("cargo build") {
            assert_eq!(rest.matches("cargo build").count(), rest.matches("--locked").count());
        }
        if word == "ENTRYPOINT" {
            assert!(rest.starts_with("[\"/"), "a shell would take the signals: {rest}");
        }
        if word == "WORKDIR" {
            assert!(rest.starts_with('/'), "{rest}");
        }
    }
}

/// Of a stage, from its FROM to the next.
fn stage<'a>(instructions: &'a [Instruction], name: &str) -> &'a [Instruction] {
    let is_from = |instruction: &Instruction| instruction.word == "FROM";
    let ending = format!(" AS {name}");
    let start = (instructions.iter())
        .position(|instruction| is_from(instruction) && instruction.rest.ends_with(&ending))
        .unwrap_or_else(|| panic!("no stage {name}"));
    let rest = &instructions[start + 1..];
    &rest[..rest.iter().position(is_from).unwrap_or(rest.len())]
}

#[test]
fn only_the_agent_runs_as_root() {
    let instructions = dockerfile();
    assert_eq!(of(stage(&instructions, "agent"), "USER"), ["0:0"]);
    let user = of(stage(&instructions, "cli"), "USER")[0].to_owned();
    // A number, since the kubelet's runAsNonRoot cannot look names up.
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{user}");
}

#[test]
fn labels_and_tags_are_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let instructions = dockerfile();
    for name in ["agent", "cli"] {
        let labels = of(stage(&instructions, name), "LABEL").join(" ");
        assert!(labels.contains(&format!("image.version=\"{version}\"")), "{name}: {labels}");
        for label in ["title", "description", "revision", "source", "licenses", "base.name"] {
            assert!(labels.contains(&format!("org.opencontainers.image.{label}=\"")), "{label}");
        }
    }
    let agent = daemonset();
    let pod = agent.spec.unwrap().template.spec.unwrap();
    let image = pod.containers[0].image.clone().unwrap();
    assert_eq!(image, format!("ghcr.io/ignoramuss/orb8-agent:{version}"));
    let built = |folder: &str| {
        let user: Kustomization = documents(format!("{folder}/kustomization.yaml"))[0].read();
        let [replaced] = user.images.as_slice() else { panic!("one image") };
        let is_replaced = image.starts_with(&format!("{}:", replaced.name));
        assert!(is_replaced, "{folder} would run the released image");
        format!("{}:{}", replaced.name, replaced.new_tag)
    };
    let by_e2e = format!("IMAGE={}\n", built("e2e"));
    assert!(text("e2e/run").contains(&by_e2e), "e2e/run builds another one");
    let told = format!("--tag {} ", built("deploy/overlays/dev"));
    assert!(text("deploy/overlays/dev/kustomization.yaml").contains(&told), "{told}");
}

#[test]
fn every_image_of_a_manifest_is_pinned() {
    fn images(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("image").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| images(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| images(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    all().iter().for_each(|document| images(&document.value, &mut found));
    assert!(found.len() > 2, "{found:?}");
    assert!(found.iter().all(|image| is_pinned(image)), "{found:?}");
}

/// Docker's context is what cargo needs: one member that is missing fails the build, and only there.
#[test]
fn the_build_context_is_the_workspace() {
    let workspace: toml::Table = text("Cargo.toml").parse().unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let files = ["Cargo.toml", "Cargo.lock"].map(str::to_owned);
    let members = members.iter().map(|member| member.as_str().unwrap().to_owned());
    let needed: BTreeSet<String> = members.chain(files).collect();
    let ignore = text(".dockerignore");
    let mut lines = ignore.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"), "everything is left out first");
    let kept: BTreeSet<String> =
        lines.map(|line| line.strip_prefix('!').expect("only additions").to_owned()).collect();
    assert_eq!(kept, needed);
}
