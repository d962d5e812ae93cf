//! `firn simulate`: scores a layering strategy on a dependency graph and a workload.

mod graph;
mod update;

use self::{
    graph::{Graph, Image},
    update::Update,
};
use super::{Failure, pull_costs::PullCostsArgs};
use clap::Args;
use firn_shared::layering::{
    DEFAULT_BUDGET, Layers, Popularity, PopularityCounts, RevisionProfile, Score, Scorer, Sharing, Strategy,
    StrategyName,
};
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// The dependency graph of a package set: a JSON array of {path, name, narSize, references}, may be gzipped
    #[arg(long, value_name = "FILE")]
    graph: PathBuf,

    /// The images that one client pulls in this order, one a line: package names separated by spaces; repeat the
    /// option for another client
    #[arg(long, value_name = "FILE", required = true)]
    images: Vec<PathBuf>,

    /// The strategy: sharing or popularity
    #[arg(long, value_name = "NAME", default_value_t)]
    strategy: StrategyName,

    /// Maximum number of layers of store paths in an image
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BUDGET as u16,
          value_parser = clap::value_parser!(u16).range(1..))]
    budget: u16,

    /// Do not use data learnt from the graph, as if nothing were known of the package set
    #[arg(long)]
    without_profile: bool,

    #[command(flatten)]
    costs: PullCostsArgs,

    /// An update of the package set, after which the client pulls its images again: leaves:PERCENT replaces that
    /// percentage of the packages that no other package refers to, library:NAME replaces one package and all that
    /// refer to it; may be repeated
    #[arg(long, value_name = "UPDATE")]
    update: Vec<Update>,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// An update, with the strategy that a backend would use after it.
struct Updated<'a> {
    update: &'a Update,
    graph: Graph,
    /// The strategy with data of the revision after the update.
    renewed: Box<dyn Strategy>,
}

/// Scores of pulling the same images again after an update.
struct Refetched<'a> {
    update: &'a Update,
    /// With the data of the revision before the update.
    kept: Score,
    /// With the data of the revision after it.
    renewed: Score,
}

pub(super) fn run(args: SimulateArgs) -> Result<(), Failure> {
    let graph = Graph::read(&args.graph)?;
    let clients: Vec<Vec<Image>> =
        args.images.iter().map(|path| graph.images(path)).collect::<Result<_, _>>()?;
    let updated: Vec<Graph> = args
        .update
        .iter()
        .map(|update| update.apply(&graph).map_err(Failure::Usage))
        .collect::<Result<_, _>>()?;
    let strategy = strategy(&args, &graph)?;
    let updates: Vec<Updated<'_>> = args
        .update
        .iter()
        .zip(updated)
        .map(|(update, graph)| Ok(Updated { update, renewed: self::strategy(&args, &graph)?, graph }))
        .collect::<Result<_, Failure>>()?;
    for (path, images) in args.images.iter().zip(clients) {
        let mut scorer = Scorer::default();
        let mut grouping = Duration::ZERO;
        for image in &images {
            let started = Instant::now();
            let layers = strategy.layers(&image.closure, &image.parts, usize::from(args.budget));
            grouping += started.elapsed();
            for (closure, parts) in &image.alone {
                // The package's layers at the step of its own image, and below at the step of this image.
                let alone = strategy.layers(closure, parts, usize::from(args.budget));
                scorer.package(closure, &members(alone));
                if let (Some(sharing), Some(step)) = (strategy.sharing(), layers.step) {
                    let layers = sharing.layers_at(closure, parts, step);
                    scorer.package(closure, &members(Layers { layers, step: None }));
                }
            }
            scorer.pull(&image.closure, &members(layers));
        }
        let refetched: Vec<Refetched<'_>> = updates
            .iter()
            .map(|updated| {
                let images = updated.graph.images(path)?;
                let again = |strategy: &dyn Strategy| {
                    let mut client = scorer.clone();
                    for Image { closure, parts, .. } in &images {
                        client.pull(closure, &strategy.group(closure, parts, usize::from(args.budget)));
                    }
                    client.score().since(&scorer.score())
                };
                let (kept, renewed) = (again(strategy.as_ref()), again(updated.renewed.as_ref()));
                Ok(Refetched { update: updated.update, kept, renewed })
            })
            .collect::<Result<_, Failure>>()?;
        print(&args, scorer.score(), grouping, &refetched);
    }
    Ok(())
}

fn members(layers: Layers) -> Vec<Vec<usize>> {
    layers.layers.into_iter().map(|layer| layer.members).collect()
}

/// The strategy of the options, with the data of this graph.
fn strategy(args: &SimulateArgs, graph: &Graph) -> Result<Box<dyn Strategy>, Failure> {
    let costs = args.costs.costs();
    Ok(match args.strategy {
        StrategyName::Sharing if args.without_profile => {
            Box::new(Sharing::new(Arc::new(RevisionProfile::empty(costs))))
        }
        StrategyName::Sharing => {
            let profile = RevisionProfile::of_package_set(&graph.whole()?, costs);
            Box::new(Sharing::new(Arc::new(profile)))
        }
        StrategyName::Popularity if args.without_profile => {
            Box::new(Popularity::new(PopularityCounts::default()))
        }
        StrategyName::Popularity => Box::new(Popularity::new(graph.popularity())),
    })
}

fn print(args: &SimulateArgs, score: Score, grouping: Duration, refetched: &[Refetched<'_>]) {
    let costs = args.costs.costs();
    if args.json {
        let mut result = json!({
            "images": score.images,
            "distinct_bytes": score.distinct_bytes,
            "transferred_bytes": score.transferred_bytes,
            "ratio": score.ratio(),
            "chain_transferred_bytes": score.chain_transferred_bytes,
            "chain_ratio": score.chain_ratio(),
            "layers_mean": score.layers_mean,
            "layers_max": score.layers_max,
            "time_seconds": score.sequence_seconds(costs),
            "first_seconds": score.first_seconds(costs),
            "composable": score.composable_share(),
            "stored_bytes": score.stored_bytes,
            "seconds": grouping.as_secs_f64(),
        });
        if !refetched.is_empty() {
            result["updates"] = refetched.iter().map(Refetched::json).collect();
        }
        println!("{result}");
    } else {
        println!(
            "{} at budget {}: {} images, {:.3} content, {:.3} chain, {:.1} layers ({} at most), {:.1} s for all, {:.2} s \
             for one alone, {:.3} composable, {} MB stored; computed in {:.3} s",
            args.strategy,
            args.budget,
            score.images,
            score.ratio(),
            score.chain_ratio(),
            score.layers_mean,
            score.layers_max,
            score.sequence_seconds(costs),
            score.first_seconds(costs),
            score.composable_share(),
            score.stored_bytes / 1_000_000,
            grouping.as_secs_f64()
        );
        refetched.iter().for_each(Refetched::print);
    }
}

impl Refetched<'_> {
    fn json(&self) -> Value {
        let fetched = |score: &Score| {
            json!({
                "transferred_bytes": score.transferred_bytes,
                "ratio": score.ratio(),
                "chain_transferred_bytes": score.chain_transferred_bytes,
                "chain_ratio": score.chain_ratio(),
            })
        };
        json!({
            "update": self.update.to_string(),
            "changed_bytes": self.kept.distinct_bytes,
            "kept": fetched(&self.kept),
            "renewed": fetched(&self.renewed),
        })
    }

    fn print(&self) {
        println!(
            "  after {}: {} bytes changed; {:.3} content, {:.3} chain with the data kept; \
             {:.3} content, {:.3} chain with new data",
            self.update,
            self.kept.distinct_bytes,
            self.kept.ratio(),
            self.kept.chain_ratio(),
            self.renewed.ratio(),
            self.renewed.chain_ratio()
        );
    }
}
