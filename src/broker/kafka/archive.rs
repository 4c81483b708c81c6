//! Turns one start of a release into an archive of its loaded classes, which halves every later
//! start (AppCDS).
//!
//! The archive belongs to one JVM and one class path, which its name says by a hash; the JVM
//! checks both again and does without the archive where they differ. Not having one is never an
//! error: the broker starts slower.

use std::hash::{BuildHasher, BuildHasherDefault};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustc_hash::FxHasher;

use super::Settings;
use super::driver::{Archive, Kafka};
use super::lock::lock;
use super::software::Software;
use crate::broker::{bring_up, tear_down};
use crate::world::Chance;

/// Writing the archive is part of the JVM's end.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// The archive for that software under that JVM, made now where there is none yet.
pub(super) async fn provide(
    settings: &Settings,
    software: &Software,
    jvm: &str,
) -> Option<PathBuf> {
    let cache = std::path::absolute(&settings.cache).ok()?.join("archives");
    std::fs::create_dir_all(&cache).ok()?;
    let key = (jvm, &software.jars, &settings.jvm);
    let hash = BuildHasherDefault::<FxHasher>::default().hash_one(key);
    let path = cache.join(format!("kafka-{}-{hash:016x}.jsa", software.version));
    if path.exists() {
        return Some(path);
    }
    let _locked = lock(&path.with_extension("lock")).await.ok()?;
    if !path.exists() {
        make(settings, software, &path).await?;
    }
    path.exists().then_some(path)
}

/// Starts one node, lets it serve a transaction and a group, and ends it in good order.
async fn make(settings: &Settings, software: &Software, path: &Path) -> Option<()> {
    let unfinished = path.with_extension("unfinished");
    let folder = path.with_extension("trial");
    for stale in [&unfinished, &folder] {
        let _ = if stale.is_dir() {
            std::fs::remove_dir_all(stale)
        } else {
            std::fs::remove_file(stale)
        };
    }
    let trial = Settings {
        nodes: 1,
        folder: folder.clone(),
        properties: Vec::new(),
        stop_timeout: WRITE_TIMEOUT,
        ..settings.clone()
    };
    let archive = Archive::Write(unfinished.clone());
    let kafka = Kafka::of_software(trial, software.clone(), archive, &Chance::from_seed(0)).ok()?;
    let ran = bring_up(&kafka).await.is_ok() && tear_down(&kafka).await.is_ok();
    drop(kafka);
    // The trial's logs tell why where it failed; they go with the next one.
    if !ran || std::fs::rename(&unfinished, path).is_err() {
        return None;
    }
    let _ = std::fs::remove_dir_all(&folder);
    Some(())
}
