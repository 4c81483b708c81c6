//! What a user can ask of the driver.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::Version;

/// Quick to start and small: a test's broker.
pub const JVM_SMALL: &[&str] = &["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];
/// As brokers are run where throughput is measured.
pub const JVM_THROUGHPUT: &[&str] = &["-Xmx512m", "-XX:+UseG1GC"];

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which release; that of [`Settings::home`] where it is given.
    pub version: Version,
    /// An unpacked release, taken instead of Maven's jars (`--kafka-home`).
    pub home: Option<PathBuf>,
    /// How many nodes, each broker and controller.
    pub nodes: u16,
    /// Configuration, logs and data of the nodes: a folder inside the run folder.
    pub folder: PathBuf,
    /// Jars and class-data archives of every run: see [`cache_folder`].
    pub cache: PathBuf,
    /// The Java to run.
    pub java: PathBuf,
    /// The Maven to get jars with.
    pub maven: PathBuf,
    /// Flags of the brokers' JVM, without the class path.
    pub jvm: Vec<String>,
    /// Lines of `server.properties` that overrule ours, and the pseudo-property
    /// `transaction.version`, which is a feature set when storage is formatted.
    pub properties: Vec<(String, String)>,
    /// Whether a class-data archive is made once and used from then on.
    pub archive: bool,
    /// Whether the nodes' data stays on disk when the cluster is dropped.
    pub keep_data: bool,
    /// How long [`Cluster::ready`](crate::broker::Cluster::ready) may take.
    pub ready_timeout: Duration,
    /// How long a node may take to end in good order before it is killed.
    pub stop_timeout: Duration,
}

impl Settings {
    /// One node of the default release.
    #[must_use]
    pub fn new(folder: PathBuf, cache: PathBuf) -> Self {
        Self {
            version: Version::DEFAULT,
            home: None,
            nodes: 1,
            folder,
            cache,
            java: "java".into(),
            maven: "mvn".into(),
            jvm: JVM_SMALL.iter().map(ToString::to_string).collect(),
            properties: Vec::new(),
            archive: true,
            keep_data: false,
            ready_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(15),
        }
    }
}

/// Where jars are kept between runs: `$FENCEPOST_CACHE`, else `fencepost` in `$XDG_CACHE_HOME`,
/// else in `$HOME/.cache`; absent where none is set. The environment is the caller's to read.
pub fn cache_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("FENCEPOST_CACHE")
        // The base-directory convention has relative values ignored.
        .or_else(|| {
            folder("XDG_CACHE_HOME")
                .filter(|path| path.is_absolute())
                .map(|path| path.join("fencepost"))
        })
        .or_else(|| folder("HOME").map(|path| path.join(".cache").join("fencepost")))
}

/// Lines that say which node it is and where: those the driver alone decides.
const OURS: &[&str] = &[
    "node.id",
    "process.roles",
    "log.dir",
    "log.dirs",
    "metadata.log.dir",
    "controller.quorum.voters",
];

/// Turns `key=value` of `--broker-property` into its parts.
///
/// # Errors
/// Where it is not of that form, or the key is one the driver decides.
pub fn parse_property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    let (key, value) = (key.trim(), value.trim());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if key.is_empty() || !key.chars().all(is_plain) {
        return Err(format!("{key:?} is not the name of a broker property"));
    }
    if OURS.contains(&key) {
        return Err(format!("{key} is decided by the driver"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_environment_says() {
        let cache = |set: &[(&str, &str)]| {
            let find = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, v)| v.into());
            cache_folder(find).map(|path| path.display().to_string())
        };
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Some("/x/fencepost".into()));
        assert_eq!(
            cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "")]),
            Some("/h/.cache/fencepost".into())
        );
        assert_eq!(
            cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "x")]),
            Some("/h/.cache/fencepost".into())
        );
        assert_eq!(cache(&[("HOME", "/h"), ("FENCEPOST_CACHE", "/f")]), Some("/f".into()));
        assert_eq!(cache(&[]), None);
    }

    #[test]
    fn properties_are_key_and_value() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(parse_property("a.b=c=d"), pair("a.b", "c=d"));
        assert_eq!(parse_property(" a = "), pair("a", ""));
        for bad in ["a", "=b", "a b=c", "a\nb=c", "node.id=7"] {
            assert!(parse_property(bad).is_err(), "{bad}");
        }
    }
}
