//! `pipe predict RUN IMAGE…`: classifies images with the model of a run, in batches that fit in
//! memory.

use super::failure::Failure;
use super::images::images_in;
use super::init::no_images;
use super::shared::StoreArguments;
use super::show::{announced_run_with_model, intact_model_of};
use crate::common::csv_text::not_a_formula;
use crate::common::number;
use crate::model::{Model, Predictions, Row, Unreadable, Warning};
use crate::ui::{self, Side, Style, Table};
use clap::{Args, ValueEnum};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// Images read and classified at a time: enough for all cores, few enough for memory.
const BATCH: usize = 64;

/// Classify images with the model of a run
///
/// Unreadable images, and by default those of which more than a tenth is missing, are skipped with a
/// warning; the exit code is 0 if at least one image could be
/// read.
#[derive(Args)]
#[command(after_help = "Examples:
  pipe predict @0 shirt.jpg                with the model of the latest run
  pipe predict @0 holiday/ --top 3         the three most likely classes
  pipe predict k3f holiday/ --format csv   with the model of run k3f…")]
pub(super) struct Arguments {
    /// The run whose model to use: an id, a unique prefix of one, @0 (the latest that has a model), @1, …
    #[arg(value_name = "RUN")]
    run: String,
    /// Images, and folders of images (searched recursively)
    #[arg(value_name = "IMAGE|FOLDER", required = true)]
    images: Vec<PathBuf>,
    /// Show the K most likely classes of each image
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The same as --format json
    #[arg(long)]
    json: bool,
    /// The train stage whose model to use, if the run has several
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    #[command(flatten)]
    store: StoreArguments,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Aligned columns
    Table,
    /// Comma-separated values with a header
    Csv,
    /// One JSON document: predictions and unreadable images
    Json,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let store = arguments.store.open_existing()?;
    let record = announced_run_with_model(&store, &arguments.run, arguments.stage.as_deref())?;
    let file = intact_model_of(&store, &record, arguments.stage.as_deref())?;
    let paths = images(&arguments.images)?;
    let model = Model::open(&file)?;
    let predictions = classify(&model, &paths, usize::from(arguments.top))?;
    let format = if arguments.json { Format::Json } else { arguments.format };
    match format {
        Format::Table => ui::out(&table(&predictions.rows))?,
        Format::Csv => ui::data(&csv(&predictions.rows)?)?,
        Format::Json => ui::json(&predictions)?,
    }
    for Warning { path, reason } in &predictions.warnings {
        ui::warning(&format!("`{path}`: {reason}"));
    }
    for Unreadable { path, reason } in &predictions.unreadable {
        ui::warning(&format!("skipped `{path}`: {reason}"));
    }
    if predictions.rows.is_empty() {
        return Err(Failure::failed("none of the images could be read"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The images that `named` stands for, in its order, with folders replaced by the images in them.
fn images(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for path in named {
        if !path.exists() {
            let message = format!("there is no file or folder `{}`", path.display());
            return Err(Failure::invalid(message));
        }
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let images = images_in(path).map_err(|error| Failure::failed(error.to_string()))?;
        if images.is_empty() {
            return Err(no_images(path));
        }
        found.extend(images.into_iter().map(|image| image.path));
    }
    Ok(found)
}

fn classify(model: &Model, paths: &[PathBuf], top: usize) -> Result<Predictions, Failure> {
    let mut all = Predictions::default();
    for batch in paths.chunks(BATCH) {
        let mut readable = Vec::with_capacity(batch.len());
        for path in batch {
            let name = path.display().to_string();
            match fs::read(path) {
                Ok(bytes) => readable.push((name, bytes)),
                Err(error) => {
                    all.unreadable.push(Unreadable { path: name, reason: error.to_string() })
                }
            }
        }
        let predictions = model.predict(&readable, top)?;
        all.rows.extend(predictions.rows);
        all.warnings.extend(predictions.warnings);
        all.unreadable.extend(predictions.unreadable);
    }
    Ok(all)
}

/// One line per image: its most likely class and, if any row has several, the next ones.
fn table(rows: &[Row]) -> String {
    let columns = [
        ("image", Side::Left),
        ("class", Side::Left),
        ("probability", Side::Right),
        ("next", Side::Left),
    ];
    let with_next = rows.iter().any(|row| row.top.len() > 1);
    let mut table = Table::new(columns.into_iter().take(if with_next { 4 } else { 3 }));
    for row in rows {
        let next = row
            .top
            .iter()
            .skip(1)
            .map(|(class, p)| format!("{class} {}", number::percent(f64::from(*p))));
        let next = next.collect::<Vec<_>>().join(", ");
        let probability = number::percent(f64::from(row.probability));
        let cells = [row.path.clone(), row.class.clone(), probability, next];
        table.row(cells.into_iter().take(if with_next { 4 } else { 3 }));
    }
    table.render(Style::stdout())
}

/// One line per image and rank.
fn csv(rows: &[Row]) -> Result<String, Failure> {
    let failed = |error: csv::Error| Failure::failed(error.to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["path", "rank", "class", "probability"]).map_err(failed)?;
    for row in rows {
        for (rank, (class, probability)) in row.top.iter().enumerate() {
            let (rank, probability) = ((rank + 1).to_string(), probability.to_string());
            let cells = [&row.path, &rank, class, &probability].map(|cell| not_a_formula(cell));
            writer.write_record(cells.iter().map(|cell| cell.as_bytes())).map_err(failed)?;
        }
    }
    let bytes = writer.into_inner().map_err(|error| Failure::failed(error.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(path: &str, top: &[(&str, f32)]) -> Row {
        let top: Vec<_> = top.iter().map(|(class, p)| ((*class).to_owned(), *p)).collect();
        Row { path: path.into(), class: top[0].0.clone(), probability: top[0].1, top }
    }

    #[test]
    fn predictions_are_printed_as_a_table() {
        let rows =
            [row("a.jpg", &[("shirt", 0.875), ("coat", 0.0625)]), row("b.jpg", &[("dress", 1.0)])];
        // The last column appears only if more than one class was requested.
        assert_eq!(table(&rows[1..]), "image  class  probability\nb.jpg  dress      100.0 %\n");
        assert!(table(&rows).starts_with(
            "image  class  probability  next\na.jpg  shirt       87.5 %  coat 6.2 %\n"
        ));
    }

    #[test]
    fn csv_fields_are_quoted_where_necessary() {
        let rows = [row("a,b.jpg", &[("shirt", 0.875), ("coat", 0.0625)])];
        assert!(csv(&[row("=a", &[("+b", 1.0)])]).unwrap().ends_with("\n'=a,1,'+b,1\n"));
        let text = csv(&rows).unwrap();
        assert_eq!(
            text,
            "path,rank,class,probability\n\"a,b.jpg\",1,shirt,0.875\n\"a,b.jpg\",2,coat,0.0625\n"
        );
    }

    #[test]
    fn a_folder_stands_for_its_images_and_a_file_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a.png", "sub/b.jfif", "sub/.c.png", "texts/notes.txt"] {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), b"x").unwrap();
        }
        let found = images(&[path("texts/notes.txt"), path("sub"), path("a.png")]).unwrap();
        assert_eq!(found, [path("texts/notes.txt"), path("sub/b.jfif"), path("a.png")]);
        assert!(images(&[path("none")]).is_err());
        assert!(images(&[path("texts")]).is_err());
    }
}
