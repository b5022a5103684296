use crossterm::event::KeyCode;

use super::*;
use crate::top::model::tests::Bench;

fn exported(keys: &str, format: FileFormat) -> (String, String) {
    let mut bench = Bench::new((80, 24));
    bench.answer();
    for key in keys.chars() {
        bench.press(if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) });
        bench.answer();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = write(&bench.model, format, folder.path()).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    (name, std::fs::read_to_string(path).unwrap())
}

#[test]
fn a_file_says_what_it_is_of() {
    let (name, text) = exported("2", FileFormat::Json);
    assert!(name.starts_with("orb8-flows-20260131-1234") && name.ends_with(".json"), "{name}");
    assert_eq!(text.lines().count(), 6);
    for line in text.lines() {
        let object: Value = serde_json::from_str(line).unwrap();
        assert_eq!(object["type"], "flow");
    }
}

#[test]
fn every_view_has_something_to_export() {
    for (keys, kind) in [
        ("1", "workload"),
        ("3", "workload"),
        ("4", "dns_summary"),
        ("5", "tcp_connection"),
        ("7", "status"),
        ("3\n", "workload"),
    ] {
        let (_, json) = exported(keys, FileFormat::Json);
        let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!(first["type"], kind, "{keys:?}");
        let (_, yaml) = exported(keys, FileFormat::Yaml);
        assert!(yaml.starts_with(&format!("---\ntype: {kind}\n")), "{yaml}");
        let (_, csv) = exported(keys, FileFormat::Csv);
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let column = reader.headers().unwrap().iter().position(|name| name == "type").unwrap();
        for record in reader.records() {
            assert_eq!(&record.unwrap()[column], kind, "{keys:?}");
        }
    }
}

#[test]
fn shares_and_devices_are_exported() {
    let mut bench = Bench::new((80, 24));
    bench.accelerators = Some(crate::tests::samples::gpu::answer());
    bench.press(KeyCode::Char('6'));
    bench.answer();
    let folder = tempfile::tempdir().unwrap();
    let written = |format| {
        let path = write(&bench.model, format, folder.path()).unwrap();
        std::fs::read_to_string(path).unwrap()
    };
    let json = written(FileFormat::Json);
    let of = |kind: &str| {
        let objects = json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        objects.filter(|object| object["type"] == kind).count()
    };
    assert_eq!((of("gpu_share"), of("gpu_device"), of("gpu_status")), (7, 6, 1), "{json}");
    let csv = written(FileFormat::Csv);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    assert!(reader.headers().unwrap().iter().any(|name| name == "workload.pod"), "{csv}");
    assert_eq!(reader.records().count(), 7, "a table is of shares alone");
}

#[test]
fn a_table_has_a_column_for_each_field() {
    let (_, text) = exported("2", FileFormat::Csv);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers = reader.headers().unwrap().clone();
    let at = |name: &str| headers.iter().position(|header| header == name).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 6);
    assert_eq!(&rows[0][at("bytes")], "98765432100", "numbers are whole");
    assert_eq!(&rows[0][at("source.workload.pod")], "llama-trainer-0");
    assert_eq!(&rows[1][at("source.ip")], "192.168.100.23");
    assert_eq!(&rows[0][at("tcp_flags")], "syn ack psh");
}

#[test]
fn what_the_filter_leaves_is_exported() {
    let (_, text) = exported("3/ssh\n", FileFormat::Json);
    let kinds: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone())
        .collect();
    assert_eq!(kinds, ["workload", "workload_totals"]);
    assert!(text.contains("ssh.service") && !text.contains("llama"));
}

#[test]
fn no_file_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new((80, 24));
    let nothing = write(&bench.model, FileFormat::Json, folder.path()).unwrap_err();
    assert!(nothing.contains("nothing is shown"), "{nothing}");
    bench.answer();
    let write = || write(&bench.model, FileFormat::Yaml, folder.path());
    let (first, second) = (write().unwrap(), write().unwrap());
    assert!(second.to_str().unwrap().ends_with("-2.yaml") && first != second);
    let away = folder.path().join("away");
    let error = super::write(&bench.model, FileFormat::Csv, &away).unwrap_err();
    assert!(error.contains("cannot write") && error.contains("away"), "{error}");
}
