use proptest::prelude::*;

use super::*;

/// Real shapes of paths, one per line.
const SAMPLES: &str = include_str!("../../../tests/data/cgroup-paths.tsv");

fn runtime_word(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Containerd => "containerd",
        Runtime::Crio => "crio",
        Runtime::Docker => "docker",
        Runtime::Podman => "podman",
    }
}

#[test]
fn samples_parse_as_the_table_says() {
    let lines = SAMPLES.lines().filter(|line| !line.starts_with('#'));
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in lines {
        let columns: Vec<&str> = line.split('\t').collect();
        assert_eq!(columns.len(), 5, "{line}");
        let PathParts { pod_uid, container_id, runtime, unit } = parse(columns[0]);
        let runtime = runtime.map(|runtime| runtime_word(runtime).to_owned());
        let got = [pod_uid, container_id, runtime, unit].map(|part| part.unwrap_or("-".into()));
        if got[..] != columns[1..] {
            wrong.push(format!("{}\n  want {:?}\n  got  {got:?}", columns[0], &columns[1..]));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 60, "the table was read: {count}");
}

proptest! {
    #[test]
    fn any_text_parses(path in "\\PC*") {
        let _ = parse(&path);
    }

    #[test]
    fn near_misses_parse(path in "(/(kubepods|pod|docker|libpod|crio|:|-|\\\\x2d|\\\\x|é|[0-9a-f]{0,64}|\\.slice|\\.scope){0,4}){0,5}") {
        let parts = parse(&path);
        if let Some(id) = parts.container_id {
            prop_assert!(path.contains(&id));
        }
    }

    #[test]
    fn a_pod_is_found_below_any_root(root in "(/[a-z]{1,8}){0,3}", uid in "[0-9a-f]{32}", id in "[0-9a-f]{64}") {
        let parts = parse(&format!("{root}/kubepods/burstable/pod{uid}/{id}"));
        prop_assert_eq!(parts.pod_uid.as_deref(), Some(uid.as_str()));
        prop_assert_eq!(parts.container_id.as_deref(), Some(id.as_str()));
    }
}
