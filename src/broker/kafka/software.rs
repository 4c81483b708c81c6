//! Turns a release's number, or the folder it was unpacked into, into a class path.
//!
//! Jars from Maven are kept in `CACHE/kafka-VERSION/libs`, with a list of their names and sizes. The
//! folder is complete or not there: Maven writes into a folder of this process, which is renamed
//! when the list is written. A folder that does not agree with its list (somebody cleaned up, a
//! disk was full) is made anew.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use super::lock::lock;
use super::{Settings, Version};
use crate::broker::process::{Launch, Signal};
use crate::broker::{BrokerError, LogTail};

/// What can be started.
#[derive(Debug, Clone)]
pub struct Software {
    /// Which release.
    pub version: Version,
    /// Its jars, in an order of which an archive of classes can rely.
    pub jars: Vec<PathBuf>,
    /// Flags that tell the release's own logging to write to standard output; a release from
    /// Maven needs none.
    pub logging: Vec<OsString>,
}

const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(600);
const LIST: &str = "jars.txt";

impl Software {
    /// The jars as `-cp` takes them.
    #[must_use]
    pub fn class_path(&self) -> OsString {
        let mut path = OsString::new();
        for jar in &self.jars {
            if !path.is_empty() {
                path.push(":");
            }
            path.push(jar);
        }
        path
    }
}

/// Provides the software of `settings`: from the unpacked release, from the cache, or through
/// Maven into the cache.
///
/// # Errors
/// Where the release has no jars, or Maven does not bring them.
pub async fn provide(settings: &Settings) -> Result<Software, BrokerError> {
    match &settings.home {
        Some(home) => unpacked(home),
        None => from_maven(settings).await,
    }
}

fn unpacked(home: &Path) -> Result<Software, BrokerError> {
    let who = || format!("Apache Kafka in {}", home.display());
    let absolute = std::path::absolute(home).map_err(|source| io_error(who(), home, source))?;
    let libs = absolute.join("libs");
    let jars = sizes(&libs).map_err(|source| io_error(who(), &libs, source))?;
    let version = jars.keys().find_map(|name| {
        let scala_and_version = name.strip_prefix("kafka_2.")?.strip_suffix(".jar")?;
        scala_and_version.split_once('-')?.1.parse().ok()
    });
    let version: Version = version.ok_or_else(|| BrokerError::Refused {
        who: who(),
        doing: "be found",
        reason: format!("there is no kafka_2.13-VERSION.jar of a known form in {}", libs.display()),
    })?;
    let flag = if version >= Version::new(4, 0, 0) {
        format!("-Dlog4j2.configurationFile={}", absolute.join("config/log4j2.yaml").display())
    } else {
        format!("-Dlog4j.configuration=file:{}", absolute.join("config/log4j.properties").display())
    };
    // Maven's folder serves as well: with this binding there, nothing else is asked.
    let has_simple = jars.keys().any(|name| name.starts_with("slf4j-simple"));
    let logging = if has_simple { Vec::new() } else { vec![flag.into()] };
    Ok(Software { version, jars: in_order(&libs, &jars), logging })
}

async fn from_maven(settings: &Settings) -> Result<Software, BrokerError> {
    let version = settings.version;
    let who = || format!("Apache Kafka {version}");
    let broken = |path: &Path| {
        let path = path.to_owned();
        move |source| io_error(who(), &path, source)
    };
    let cache = std::path::absolute(&settings.cache).map_err(broken(&settings.cache))?;
    let folder = cache.join(format!("kafka-{version}"));
    if let Some(jars) = complete(&folder, version) {
        return Ok(from_folder(version, &folder, &jars));
    }
    std::fs::create_dir_all(&cache).map_err(broken(&cache))?;
    let lock_file = cache.join(format!("kafka-{version}.lock"));
    let _locked = lock(&lock_file).await.map_err(broken(&lock_file))?;
    // Whoever held the lock before may have brought it.
    if let Some(jars) = complete(&folder, version) {
        return Ok(from_folder(version, &folder, &jars));
    }
    // What a killed process left; the lock says that nobody works there.
    let unfinished = cache.join(format!("kafka-{version}.unfinished"));
    for stale in [&unfinished, &folder] {
        if stale.exists() {
            std::fs::remove_dir_all(stale).map_err(broken(stale))?;
        }
    }
    std::fs::create_dir(&unfinished).map_err(broken(&unfinished))?;
    std::fs::write(unfinished.join("pom.xml"), pom(version)).map_err(broken(&unfinished))?;
    run_maven(&settings.maven, version, &unfinished).await?;
    let libs = unfinished.join("libs");
    let jars = sizes(&libs).map_err(broken(&libs))?;
    let list: String = jars.iter().map(|(name, bytes)| format!("{bytes} {name}\n")).collect();
    std::fs::write(unfinished.join(LIST), list).map_err(broken(&unfinished))?;
    std::fs::rename(&unfinished, &folder).map_err(broken(&folder))?;
    let jars = complete(&folder, version).ok_or_else(|| BrokerError::Refused {
        who: who(),
        doing: "be provisioned",
        reason: "Maven succeeded and brought no jar of the broker".into(),
    })?;
    Ok(from_folder(version, &folder, &jars))
}

fn from_folder(version: Version, folder: &Path, jars: &BTreeMap<String, u64>) -> Software {
    let jars = in_order(&folder.join("libs"), jars);
    let logging = ["showDateTime=true", "dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX"];
    let flag = |setting: &str| format!("-Dorg.slf4j.simpleLogger.{setting}").into();
    Software { version, jars, logging: logging.map(flag).to_vec() }
}

/// The jars of a folder that agrees with its list.
fn complete(folder: &Path, version: Version) -> Option<BTreeMap<String, u64>> {
    let list = std::fs::read_to_string(folder.join(LIST)).ok()?;
    let listed: BTreeMap<String, u64> = list
        .lines()
        .map(|line| {
            let (bytes, name) = line.split_once(' ')?;
            Some((name.to_owned(), bytes.parse().ok()?))
        })
        .collect::<Option<_>>()?;
    let found = sizes(&folder.join("libs")).ok()?;
    let has_broker = found.contains_key(&format!("kafka_2.13-{version}.jar"));
    (found == listed && has_broker).then_some(found)
}

fn sizes(libs: &Path) -> std::io::Result<BTreeMap<String, u64>> {
    let mut jars = BTreeMap::new();
    for entry in std::fs::read_dir(libs)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.ends_with(".jar")) else { continue };
        // Follows links: a release may be put together of them.
        jars.insert(name.to_owned(), std::fs::metadata(entry.path())?.len());
    }
    Ok(jars)
}

/// By name, with the binding of slf4j that logs to standard error alone where it is there: of
/// several on the class path, any may win.
fn in_order(libs: &Path, jars: &BTreeMap<String, u64>) -> Vec<PathBuf> {
    let has_simple = jars.keys().any(|name| name.starts_with("slf4j-simple"));
    let is_other_binding =
        |name: &str| name.starts_with("slf4j-reload4j") || name.starts_with("log4j-slf4j");
    let kept = jars.keys().filter(|name| !(has_simple && is_other_binding(name)));
    kept.map(|name| libs.join(name)).collect()
}

/// `kafka_2.13` brings the server and its storage tool with it; `kafka-tools` would bring Connect
/// and a web server, and is not served of every release.
fn pom(version: Version) -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>\n"
        )
    };
    let kafka = dependency("org.apache.kafka", "kafka_2.13", &version.to_string());
    let simple = dependency("org.slf4j", "slf4j-simple", "1.7.36");
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  \
         <modelVersion>4.0.0</modelVersion>\n  <groupId>fencepost</groupId>\n  \
         <artifactId>kafka-{version}</artifactId>\n  <version>1</version>\n  <dependencies>\n\
         {kafka}{simple}  </dependencies>\n</project>\n"
    )
}

async fn run_maven(maven: &Path, version: Version, folder: &Path) -> Result<(), BrokerError> {
    let who = || format!("Maven (for Apache Kafka {version})");
    let log = folder.join("maven.log");
    let arguments = ["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"];
    let launch = Launch {
        program: maven.to_owned(),
        arguments: arguments.map(OsString::from).to_vec(),
        folder: folder.to_owned(),
        log: log.clone(),
    };
    let child = launch.spawn().await.map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => BrokerError::Refused {
            who: who(),
            doing: "be started",
            reason: format!(
                "{} is not there; install Maven, or give an unpacked release (--kafka-home)",
                maven.display()
            ),
        },
        _ => io_error(who(), maven, source),
    })?;
    let Ok(status) = timeout(DOWNLOAD_TIMEOUT, child.exited()).await else {
        let _ = child.signal(Signal::Kill);
        return Err(BrokerError::TimedOut {
            who: who(),
            doing: "bring the jars",
            timeout_s: DOWNLOAD_TIMEOUT.as_secs(),
            last: "it was still at it".into(),
            log: LogTail::read(&log),
        });
    };
    if status.success() {
        return Ok(());
    }
    Err(BrokerError::Died {
        who: who(),
        doing: "bring the jars",
        status: status.to_string(),
        log: LogTail::read(&log),
    })
}

fn io_error(who: String, path: &Path, source: std::io::Error) -> BrokerError {
    BrokerError::Io { who, doing: "be provisioned", what: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Maven that brings two jars and counts how often it was asked.
    fn fake_maven(folder: &Path, script_end: &str) -> PathBuf {
        let path = folder.join("mvn");
        let calls = folder.join("calls");
        let script = format!(
            "#!/bin/sh\necho asked >> '{}'\nmkdir libs\n\
             echo jar > libs/kafka_2.13-4.3.0.jar\necho jar > libs/slf4j-simple-1.7.36.jar\n\
             {script_end}\n",
            calls.display()
        );
        // Written by another process: a program that this one has open for writing, or that a
        // child just forked inherits so, cannot be started.
        let write = "printf %s \"$1\" > \"$2\" && chmod +x \"$2\"";
        let arguments = ["-c", write, "sh", &script];
        let mut writer = std::process::Command::new("sh");
        let written = writer.args(arguments).arg(&path).status().expect("a shell");
        assert!(written.success());
        path
    }

    fn settings(folder: &Path, maven: PathBuf) -> Settings {
        Settings { maven, ..Settings::new(folder.join("run"), folder.join("cache")) }
    }

    fn calls(folder: &Path) -> usize {
        std::fs::read_to_string(folder.join("calls")).map_or(0, |text| text.lines().count())
    }

    #[tokio::test]
    async fn maven_is_asked_once_however_many_want_the_jars() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = settings(folder.path(), fake_maven(folder.path(), ""));
        let (one, two) = tokio::join!(provide(&settings), provide(&settings));
        let (one, two) = (one.expect("jars"), two.expect("jars"));
        assert_eq!(one.jars, two.jars);
        assert_eq!(one.jars.len(), 2);
        assert_eq!(provide(&settings).await.expect("jars").version, Version::DEFAULT);
        assert_eq!(calls(folder.path()), 1);
    }

    #[tokio::test]
    async fn what_is_half_there_is_brought_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = settings(folder.path(), fake_maven(folder.path(), ""));
        // As a killed process leaves it.
        let unfinished = settings.cache.join("kafka-4.3.0.unfinished/libs");
        std::fs::create_dir_all(&unfinished).expect("a folder");
        std::fs::write(unfinished.join("half.jar"), "x").expect("half a jar");
        let jars = provide(&settings).await.expect("jars").jars;
        assert_eq!(jars.len(), 2, "{jars:?}");

        for damage in ["kafka_2.13-4.3.0.jar", "slf4j-simple-1.7.36.jar"] {
            let before = calls(folder.path());
            let jar = settings.cache.join("kafka-4.3.0/libs").join(damage);
            std::fs::write(jar, "").expect("a jar cut off");
            assert_eq!(provide(&settings).await.expect("jars").jars, jars);
            assert_eq!(calls(folder.path()), before + 1);
        }
    }

    #[tokio::test]
    async fn a_maven_that_fails_or_is_missing_says_so_and_leaves_nothing_complete() {
        let folder = tempfile::tempdir().expect("a folder");
        let failing = fake_maven(folder.path(), "echo no such artifact; exit 1");
        let error = provide(&settings(folder.path(), failing)).await.expect_err("it fails");
        assert!(error.to_string().contains("no such artifact"), "{error}");
        assert!(!folder.path().join("cache/kafka-4.3.0").exists());

        let missing = folder.path().join("nowhere");
        let error = provide(&settings(folder.path(), missing)).await.expect_err("it is missing");
        assert!(error.to_string().contains("install Maven"), "{error}");
    }

    #[tokio::test]
    async fn an_unpacked_release_says_its_version_and_keeps_its_own_logging() {
        let home = tempfile::tempdir().expect("a folder");
        let mut settings = settings(home.path(), "mvn".into());
        settings.home = Some(home.path().to_owned());
        assert!(provide(&settings).await.is_err(), "there are no jars");
        std::fs::create_dir(home.path().join("libs")).expect("a folder");
        assert!(provide(&settings).await.is_err(), "there is no broker among the jars");
        for jar in ["kafka_2.13-3.9.2.jar", "slf4j-reload4j-1.7.36.jar", "kafka.sh"] {
            std::fs::write(home.path().join("libs").join(jar), "x").expect("a file");
        }
        let software = provide(&settings).await.expect("a release");
        assert_eq!(software.version, Version::new(3, 9, 2));
        assert_eq!(software.jars.len(), 2);
        let flags = software.logging[0].to_string_lossy().into_owned();
        assert!(flags.starts_with("-Dlog4j.configuration=file:"), "{flags}");
    }
}
