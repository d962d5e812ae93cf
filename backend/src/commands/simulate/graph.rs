//! A dependency graph in the shape of a Nix store, and the images of a workload.

use super::Failure;
use firn_shared::{
    Closure, StorePath,
    layering::{Part, PopularityCounts},
    nix::closure::PathInfo,
    oci::digest::NarHash,
};
use serde::Deserialize;
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::Read,
    path::Path,
};

fn unreadable(path: &Path, problem: &dyn std::fmt::Display) -> Failure {
    Failure::Error(format!("cannot read {}: {problem}", path.display()))
}

/// A package, as the file with the graph has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: StorePath,
    name: String,
    nar_size: u64,
    references: Vec<String>,
}

/// The packages of a graph, as path infos.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) infos: Vec<PathInfo>,
    /// For each package, the indices of the packages that it refers to.
    pub(super) references: Vec<Vec<usize>>,
    pub(super) by_name: HashMap<String, usize>,
}

/// An image of a workload.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) closure: Closure,
    pub(super) parts: Vec<Part>,
    /// Each of its packages, as an image of its own.
    pub(super) alone: Vec<(Closure, Vec<Part>)>,
}

impl Graph {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let mut bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut unpacked = Vec::new();
            flate2::read::MultiGzDecoder::new(bytes.as_slice())
                .read_to_end(&mut unpacked)
                .map_err(|error| unreadable(path, &error))?;
            bytes = unpacked;
        }
        let nodes: Vec<Node> = serde_json::from_slice(&bytes).map_err(|error| unreadable(path, &error))?;
        Self::new(nodes).map_err(|problem| unreadable(path, &problem))
    }

    fn new(nodes: Vec<Node>) -> Result<Self, String> {
        let mut by_name = HashMap::with_capacity(nodes.len());
        for (i, node) in nodes.iter().enumerate() {
            if by_name.insert(node.name.clone(), i).is_some() {
                return Err(format!("there are two packages {}", node.name));
            }
        }
        let references: Vec<Vec<usize>> = nodes
            .iter()
            .map(|node| {
                let index = |name: &String| {
                    let problem = || format!("{} refers to {name}, which is not in the graph", node.name);
                    by_name.get(name).copied().ok_or_else(problem)
                };
                node.references.iter().map(index).collect()
            })
            .collect::<Result<_, _>>()?;
        let infos = nodes
            .iter()
            .zip(&references)
            .map(|(node, references)| PathInfo {
                path: node.path.clone(),
                // The contents of the paths are never read here: the path stands for its content.
                nar_hash: NarHash::of(node.path.as_str().as_bytes()),
                nar_size: node.nar_size,
                references: references.iter().map(|&to| nodes[to].path.clone()).collect(),
            })
            .collect();
        Ok(Self { infos, references, by_name })
    }

    /// The images of a workload.
    pub(super) fn images(&self, path: &Path) -> Result<Vec<Image>, Failure> {
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.map(|line| self.image(line).map_err(|problem| unreadable(path, &problem))).collect()
    }

    /// The image that has the packages named in the line.
    fn image(&self, line: &str) -> Result<Image, String> {
        let packages = line
            .split_whitespace()
            .map(|name| self.by_name.get(name).copied().ok_or_else(|| format!("the graph has no {name}")))
            .collect::<Result<BTreeSet<_>, _>>()?;
        let alone = packages.iter().map(|&package| self.package_image(&BTreeSet::from([package])));
        let alone = alone.collect::<Result<_, _>>()?;
        let (closure, parts) = self.package_image(&packages)?;
        Ok(Image { closure, parts, alone })
    }

    /// The closure of these packages, and the part of each package.
    fn package_image(&self, packages: &BTreeSet<usize>) -> Result<(Closure, Vec<Part>), String> {
        let mut members = BTreeSet::new();
        let mut next: Vec<usize> = packages.iter().copied().collect();
        while let Some(i) = next.pop() {
            if members.insert(i) {
                next.extend(&self.references[i]);
            }
        }
        let closure =
            Closure::new(members.into_iter().map(|i| &self.infos[i])).map_err(|error| error.to_string())?;
        let parts = packages.iter().map(|&i| Part::new(&closure, [&self.infos[i].path], false)).collect();
        Ok((closure, parts))
    }

    pub(super) fn whole(&self) -> Result<Closure, Failure> {
        Closure::new(&self.infos).map_err(|error| Failure::error(&error))
    }

    /// How many packages refer to each package.
    pub(super) fn popularity(&self) -> PopularityCounts {
        let references = self.infos.iter().flat_map(|info| &info.references);
        references.map(|to| (to.name().to_owned(), 1)).collect()
    }
}
