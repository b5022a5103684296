//! The scenario's file: sections of `key = value` lines and of sentences. The README tells the format.

mod lines;
mod numbers;

use std::path::Path;

use super::scenario::{
    Architecture, Device, Driver, Layout, Pci, QUANTITIES, Scenario, Setting, Start,
};

/// What a line says, or what is wrong with it.
type Parsed<T> = Result<T, String>;

/// Reads a scenario; files that it names are in a folder.
///
/// # Errors
/// What is wrong with it, a line for each.
pub(super) fn parse(text: &str, folder: &Path) -> Result<Scenario, String> {
    let mut reader = Reader { folder, scenario: Scenario::default(), section: None };
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split_once(" #").map_or(line, |(line, _)| line).trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Err(problem) = reader.line(line) {
            problems.push(format!("line {}: {problem}", number + 1));
        }
    }
    for device in reader.scenario.devices.iter().filter(|device| device.model.is_empty()) {
        problems
            .push(format!("device {} has no model: add `model = …` to its section", device.index));
    }
    if problems.is_empty() { Ok(reader.scenario) } else { Err(problems.join("\n")) }
}

/// Reads the lines that others write into a file of processes.
pub(super) fn parse_processes(
    text: &str,
    like: &super::scenario::Process,
) -> Result<Vec<super::scenario::Process>, String> {
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| lines::process(line, like)).collect()
}

/// What the lines that follow are about.
#[derive(Clone)]
enum Section {
    Driver,
    Devices(Vec<usize>),
    Mig(Vec<usize>),
    Processes,
    Events,
}

struct Reader<'a> {
    folder: &'a Path,
    scenario: Scenario,
    section: Option<Section>,
}

impl Reader<'_> {
    fn line(&mut self, line: &str) -> Parsed<()> {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.strip_suffix(']').ok_or("a section's name ends with `]`")?;
            self.section = None;
            self.section = Some(self.header(header)?);
            return Ok(());
        }
        match self.section.clone() {
            None => {
                Err("is in no section: begin with [driver], [device …], [mig …], [processes] or \
                         [events]"
                    .into())
            }
            Some(Section::Driver) => driver(&mut self.scenario.driver, line),
            Some(Section::Devices(devices)) => self.devices(&devices, line),
            Some(Section::Mig(devices)) => self.instance(&devices, line),
            Some(Section::Processes) => self.process(line),
            Some(Section::Events) => {
                self.scenario.happenings.push(lines::happening(line)?);
                Ok(())
            }
        }
    }

    fn header(&mut self, header: &str) -> Parsed<Section> {
        let words: Vec<&str> = header.split_whitespace().collect();
        match words[..] {
            ["driver"] => Ok(Section::Driver),
            ["processes"] => Ok(Section::Processes),
            ["events"] => Ok(Section::Events),
            ["device", devices] => {
                let devices = lines::indices(devices)?;
                let count = devices.iter().max().map_or(0, |last| last + 1);
                if count > 64 {
                    return Err(format!("{count} devices are more than a node has"));
                }
                for index in self.scenario.devices.len()..count {
                    self.scenario.devices.push(Device::new(index));
                }
                Ok(Section::Devices(devices))
            }
            ["mig", devices] => self.layout(devices, "0", true),
            ["mig", devices, "from", from] => self.layout(devices, from, true),
            ["mig", devices, "from", from, "off"] => self.layout(devices, from, false),
            _ => Err(format!(
                "[{header}] is no section: there are [driver], [device N], [mig N], [mig N from T], \
                 [mig N from T off], [processes] and [events]"
            )),
        }
    }

    fn layout(&mut self, devices: &str, from: &str, is_on: bool) -> Parsed<Section> {
        let devices = lines::indices(devices)?;
        let from = numbers::seconds(from)?;
        for index in &devices {
            let device = self.device(*index)?;
            if device.layouts.last().is_some_and(|last| last.from >= from) {
                return Err("layouts of one device come in the order of their times".into());
            }
            device.mig = true;
            device.layouts.push(Layout { from, is_on, instances: Vec::new() });
        }
        Ok(Section::Mig(devices))
    }

    fn device(&mut self, index: usize) -> Parsed<&mut Device> {
        let problem = || format!("there is no device {index}: its [device] section comes first");
        self.scenario.devices.get_mut(index).ok_or_else(problem)
    }

    fn devices(&mut self, devices: &[usize], line: &str) -> Parsed<()> {
        for index in devices {
            let line = line.replace("$i", &index.to_string());
            let (key, value) = pair(&line)?;
            set(self.device(*index)?, key, value)?;
        }
        Ok(())
    }

    fn instance(&mut self, devices: &[usize], line: &str) -> Parsed<()> {
        for index in devices {
            let device = self.device(*index)?;
            let instances = lines::instances(line, device)?;
            let layout = device.layouts.last_mut().ok_or("has no layout")?;
            if !layout.is_on {
                return Err("there are no instances while MIG is off".into());
            }
            layout.instances.extend(instances);
        }
        Ok(())
    }

    fn process(&mut self, line: &str) -> Parsed<()> {
        let like = lines::nobody();
        match lines::process_file(line, self.folder, &like)? {
            Some(file) => self.scenario.files.push(file),
            None => self.scenario.processes.push(lines::process(line, &like)?),
        }
        Ok(())
    }
}

fn pair(line: &str) -> Parsed<(&str, &str)> {
    let (key, value) = line.split_once('=').ok_or("is no `key = value`")?;
    Ok((key.trim(), value.trim()))
}

fn driver(driver: &mut Driver, line: &str) -> Parsed<()> {
    let (key, value) = pair(line)?;
    match key {
        "version" => driver.version = value.into(),
        "nvml" => driver.nvml = value.into(),
        "cuda" => {
            let (major, minor) = numbers::version(value)?;
            driver.cuda = major * 1000 + minor * 10;
        }
        "start" => {
            driver.start = match value {
                "read" => Start::Read,
                "written" => Start::Written,
                seconds => Start::At(numbers::number(seconds)?),
            };
        }
        _ => return Err(format!("`{key}` is no key of [driver]: version, nvml, cuda, start")),
    }
    Ok(())
}

/// Sets what a line of a device's section says.
fn set(device: &mut Device, key: &str, value: &str) -> Parsed<()> {
    if let Some((quantity, ..)) = QUANTITIES.iter().find(|(_, name, _)| *name == key) {
        device.set(*quantity, setting(value)?);
        return Ok(());
    }
    match key {
        "model" => device.model = value.into(),
        "architecture" => {
            let problem = || format!("`{value}` is no architecture: ampere, ada, hopper, …");
            device.architecture = Architecture::parse(value).ok_or_else(problem)?;
            device.gpm = device.architecture >= Architecture::Hopper;
        }
        "uuid" => device.uuid = value.into(),
        "serial" => device.serial = (value != "none").then(|| value.into()),
        "vbios" => device.vbios = value.into(),
        "brand" => device.brand = numbers::integer(value)?,
        "minor" => device.minor = numbers::integer(value)?,
        "pci" => {
            let problem = || format!("`{value}` is no PCI address like 0000:1b:00.0");
            device.pci = Pci::parse(value).ok_or_else(problem)?;
        }
        "compute" => device.compute = numbers::version(value)?,
        "multiprocessors" => device.multiprocessors = numbers::integer(value)?,
        "gpm" => device.gpm = yes(value)?,
        "mig" => device.mig = yes(value)?,
        "ecc" => device.ecc = if value == "none" { None } else { Some(yes(value)?) },
        "persistence" => device.persistence = yes(value)?,
        "nvlink.links" => device.links = numbers::integer(value)?,
        "nvlink.version" => device.link_version = numbers::integer(value)?,
        "nvlink.down" => {
            let down = lines::indices(value)?;
            device.links_down = down.into_iter().map(|link| link as u32).collect();
        }
        _ => return Err(format!("`{key}` is no key of a device; the README lists them")),
    }
    Ok(())
}

fn setting(value: &str) -> Parsed<Setting> {
    Ok(match value {
        "none" => Setting::Unsupported,
        "derived" => Setting::Derived,
        curve => Setting::Given(numbers::curve(curve)?),
    })
}

fn yes(value: &str) -> Parsed<bool> {
    match value {
        "yes" | "on" => Ok(true),
        "no" | "off" => Ok(false),
        _ => Err(format!("`{value}` is neither yes nor no")),
    }
}

#[cfg(test)]
mod tests;
