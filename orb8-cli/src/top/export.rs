//! Writing what is shown to a file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use orb8_proto::gpu::Places;
use serde_json::{Map, Value};

use super::Tab;
use super::list::ListTab;
use super::listed::Listed;
use super::model::Model;
use crate::commands::list::List;
use crate::output::Machine;
use crate::output::gpu::DeviceObject;
use crate::output::status::StatusObject;
use crate::output::workload::SummaryObject;

/// Files of one second that are told apart.
const MAX_SAME: u32 = 100;

/// A format of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileFormat {
    /// As `-o json`.
    Json,
    /// As `-o yaml`.
    Yaml,
    /// The objects of `-o json` with their fields in columns.
    Csv,
}

impl FileFormat {
    pub(super) const ALL: [Self; 3] = [Self::Json, Self::Yaml, Self::Csv];

    /// Returns the name, which is the end of a file's name too.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Csv => "csv",
        }
    }

    /// Returns the key that chooses it.
    pub(super) const fn key(self) -> char {
        match self {
            Self::Json => 'j',
            Self::Yaml => 'y',
            Self::Csv => 'c',
        }
    }
}

/// Writes what is shown to a new file, and returns its path. The error says what went wrong.
pub(super) fn write(model: &Model, format: FileFormat, folder: &Path) -> Result<PathBuf, String> {
    let mut content = Vec::new();
    let written = match format {
        FileFormat::Json => objects(model, Machine::Json, &mut content),
        FileFormat::Yaml => objects(model, Machine::Yaml, &mut content),
        FileFormat::Csv => csv(model, &mut content),
    };
    written.map_err(|error| format!("cannot export: {error}"))?;
    if content.is_empty() {
        return Err("nothing is shown that could be exported".to_owned());
    }
    let name = match &model.focus {
        Some(_) => "workload",
        None => model.tab.word(),
    };
    let time = i128::from(model.now_ns);
    let time = Timestamp::from_nanosecond(time).unwrap_or_default();
    let time = time.to_zoned(model.settings.time_zone.clone()).strftime("%Y%m%d-%H%M%S");
    create(folder, &format!("orb8-{name}-{time}"), format.word(), &content)
}

/// Makes a file of its own: nothing that is there is written over.
fn create(folder: &Path, stem: &str, end: &str, content: &[u8]) -> Result<PathBuf, String> {
    for number in 1..=MAX_SAME {
        let name = match number {
            1 => format!("{stem}.{end}"),
            number => format!("{stem}-{number}.{end}"),
        };
        let path = folder.join(name);
        let failed = |error| format!("cannot write {}: {error}", path.display());
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                file.write_all(content).map_err(failed)?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(format!("{} has too many exports of this second", folder.display()))
}

/// Writes objects as the commands do.
fn objects(model: &Model, machine: Machine, out: &mut Vec<u8>) -> io::Result<()> {
    if let Some(focus) = &model.focus {
        machine.write(out, &SummaryObject::new(&focus.summary))?;
        return rows(&focus.flows, machine, out);
    }
    match model.tab {
        Tab::Overview => rows(&model.overview, machine, out),
        Tab::Flows => rows(&model.flows, machine, out),
        Tab::Workloads => rows(&model.workloads, machine, out),
        Tab::Dns => rows(&model.dns, machine, out),
        Tab::Tcp => rows(&model.tcp, machine, out),
        Tab::Gpu => accelerators(model, machine, out),
        Tab::Agent => match &model.status {
            Some(status) => machine.write(out, &StatusObject::new(status)),
            None => Ok(()),
        },
    }
}

/// Writes who has what, and the devices themselves.
fn accelerators(model: &Model, machine: Machine, out: &mut Vec<u8>) -> io::Result<()> {
    rows(&model.gpu, machine, out)?;
    let Some(told) = &model.gpu.answer else { return Ok(()) };
    let places = Places::new(&told.answer().devices);
    for device in &told.answer().devices {
        machine.write(out, &DeviceObject::new(device, &places))?;
    }
    Ok(())
}

fn rows<L: Listed>(list: &ListTab<L>, machine: Machine, out: &mut Vec<u8>) -> io::Result<()> {
    match list.shown_only() {
        Some(answer) => <L as List>::write(machine, out, &answer),
        None => Ok(()),
    }
}

/// Writes the objects of one kind, a field a column.
fn csv(model: &Model, out: &mut Vec<u8>) -> io::Result<()> {
    let mut json = Vec::new();
    objects(model, Machine::Json, &mut json)?;
    let mut records: Vec<Map<String, Value>> = Vec::new();
    for object in serde_json::Deserializer::from_slice(&json).into_iter::<Value>() {
        let mut record = Map::new();
        flatten("", &object?, &mut record);
        records.push(record);
    }
    // A workload comes before its flows, and what all rows add up to comes last.
    let is_flow = |record: &Map<String, Value>| record["type"] == "flow";
    let kind = match records.iter().any(is_flow) {
        true => Some(Value::from("flow")),
        false => records.first().map(|record| record["type"].clone()),
    };
    records.retain(|record| Some(&record["type"]) == kind.as_ref());
    let mut columns: Vec<String> = Vec::new();
    for key in records.iter().flat_map(Map::keys) {
        if !columns.contains(key) {
            columns.push(key.clone());
        }
    }
    if columns.is_empty() {
        return Ok(());
    }
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(&columns)?;
    for record in &records {
        writer.write_record(columns.iter().map(|column| text(record.get(column))))?;
    }
    writer.flush()
}

/// Puts the fields of fields beside others: `source.ip`.
fn flatten(path: &str, value: &Value, record: &mut Map<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, field, record);
            }
        }
        value => drop(record.insert(path.to_owned(), value.clone())),
    }
}

/// A list is words where it is one of words, else JSON.
fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.iter().all(|item| !item.is_object()) => {
            let items: Vec<String> = items.iter().map(|item| text(Some(item))).collect();
            items.join(" ")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
