//! `firn simulate`: scores a layering strategy on a dependency graph and a workload.

use super::Failure;
use clap::Args;
use firn_shared::{
    Closure, StorePath,
    closure::PathInfo,
    digest::NarHash,
    layering::{
        DEFAULT_BUDGET, Popularity, PopularityCounts, RevisionProfile, Score, Scorer, Sharing, Strategy,
        StrategyName,
    },
};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// The dependency graph of a package set: a JSON array of {path, name, narSize, references}, may be gzipped
    #[arg(long, value_name = "FILE")]
    graph: PathBuf,

    /// The images that one client pulls in this order, one a line: names of packages, separated by spaces;
    /// given again for another client
    #[arg(long, value_name = "FILE", required = true)]
    images: Vec<PathBuf>,

    /// The strategy: sharing or popularity
    #[arg(long, value_name = "NAME", default_value_t)]
    strategy: StrategyName,

    /// How many layers of store paths an image has at most
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BUDGET as u16,
          value_parser = clap::value_parser!(u16).range(1..))]
    budget: u16,

    /// Leave out what is learnt from the graph, as where nothing is known of a package set
    #[arg(long)]
    without_profile: bool,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: SimulateArgs) -> Result<(), Failure> {
    let graph = Graph::read(&args.graph)?;
    let clients: Vec<Vec<Closure>> =
        args.images.iter().map(|path| graph.images(path)).collect::<Result<_, _>>()?;
    let strategy: Box<dyn Strategy> = match args.strategy {
        StrategyName::Sharing if args.without_profile => Box::new(Sharing::default()),
        StrategyName::Sharing => {
            let profile = RevisionProfile::of_package_set(&graph.whole()?);
            Box::new(Sharing::new(Arc::new(profile)))
        }
        StrategyName::Popularity if args.without_profile => {
            Box::new(Popularity::new(PopularityCounts::default()))
        }
        StrategyName::Popularity => Box::new(Popularity::new(graph.popularity())),
    };
    for images in clients {
        let mut scorer = Scorer::default();
        let mut grouping = Duration::ZERO;
        for closure in &images {
            let started = Instant::now();
            let groups = strategy.group(closure, usize::from(args.budget));
            grouping += started.elapsed();
            scorer.pull(closure, &groups);
        }
        print(&args, scorer.score(), grouping);
    }
    Ok(())
}

fn print(args: &SimulateArgs, score: Score, grouping: Duration) {
    if args.json {
        let result = json!({
            "images": score.images,
            "distinct_bytes": score.distinct_bytes,
            "transferred_bytes": score.transferred_bytes,
            "ratio": score.ratio(),
            "chain_transferred_bytes": score.chain_transferred_bytes,
            "chain_ratio": score.chain_ratio(),
            "layers_mean": score.layers_mean,
            "layers_max": score.layers_max,
            "seconds": grouping.as_secs_f64(),
        });
        println!("{result}");
    } else {
        println!(
            "{} at budget {}: {} images, {:.3} content, {:.3} chain, {:.1} layers ({} at most), {:.3} s",
            args.strategy,
            args.budget,
            score.images,
            score.ratio(),
            score.chain_ratio(),
            score.layers_mean,
            score.layers_max,
            grouping.as_secs_f64()
        );
    }
}

fn unreadable(path: &Path, problem: &dyn std::fmt::Display) -> Failure {
    Failure::Error(format!("cannot read {}: {problem}", path.display()))
}

/// A package as the graph has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: StorePath,
    name: String,
    nar_size: u64,
    references: Vec<String>,
}

/// The packages of a graph, in the form in which Nix's database has them.
#[derive(Debug)]
struct Graph {
    infos: Vec<PathInfo>,
    references: Vec<Vec<usize>>,
    by_name: HashMap<String, usize>,
}

impl Graph {
    fn read(path: &Path) -> Result<Self, Failure> {
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
                    let problem = || format!("{} refers to {name}, which is not there", node.name);
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
                // Nothing looks into the paths here: one path, one content.
                nar_hash: NarHash::of(node.path.as_str().as_bytes()),
                nar_size: node.nar_size,
                references: references.iter().map(|&to| nodes[to].path.clone()).collect(),
            })
            .collect();
        Ok(Self { infos, references, by_name })
    }

    /// The images of a workload.
    fn images(&self, path: &Path) -> Result<Vec<Closure>, Failure> {
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.map(|line| self.image(line).map_err(|problem| unreadable(path, &problem))).collect()
    }

    /// The closure of the packages that the line names.
    fn image(&self, line: &str) -> Result<Closure, String> {
        let mut members = BTreeSet::new();
        let mut next = line
            .split_whitespace()
            .map(|name| self.by_name.get(name).copied().ok_or_else(|| format!("the graph has no {name}")))
            .collect::<Result<Vec<_>, _>>()?;
        while let Some(i) = next.pop() {
            if members.insert(i) {
                next.extend(&self.references[i]);
            }
        }
        Closure::new(members.into_iter().map(|i| &self.infos[i])).map_err(|error| error.to_string())
    }

    fn whole(&self) -> Result<Closure, Failure> {
        Closure::new(&self.infos).map_err(|error| Failure::error(&error))
    }

    /// How many packages refer to each.
    fn popularity(&self) -> PopularityCounts {
        let references = self.infos.iter().flat_map(|info| &info.references);
        references.map(|to| (to.name().to_owned(), 1)).collect()
    }
}
