//! `pipe predict RUN IMAGE…`: finds the images, asks the run's model in portions that fit in memory, and prints the
//! answers. Knows folders and formats of output; knows nothing of networks.

use super::failure::Failure;
use super::shared::StoreArguments;
use crate::common::image_files::EXTENSIONS;
use crate::common::number;
use crate::model::{Model, Predictions, Row, Unreadable};
use crate::ui::{self, Side, Style, Table};
use clap::{Args, ValueEnum};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Images read and asked about at once: enough to keep every core busy, few enough for any memory.
const PORTION: usize = 64;

/// Classify images with the model of a run
///
/// Images that can't be read are listed on standard error and left out; the exit code is 0 unless none could be read.
#[derive(Args)]
#[command(after_help = "Examples:
  pipe predict @0 shirt.jpg                  with the latest run's model
  pipe predict @0 holiday/ --top 3           a folder, the three likeliest classes each
  pipe predict k3f holiday/ --format csv     with the model of the run whose id begins with k3f")]
pub(super) struct Arguments {
    /// The run whose model is asked: an id, the beginning of one, @0, @1, …
    #[arg(value_name = "RUN")]
    run: String,
    /// Images, and folders of images (searched with their subfolders)
    #[arg(value_name = "IMAGE|FOLDER", required = true)]
    images: Vec<PathBuf>,
    /// How many of the likeliest classes to show for each image
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// How to print the answers
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The same as --format json
    #[arg(long)]
    json: bool,
    /// The train stage whose model is meant, where the run has several
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    #[command(flatten)]
    store: StoreArguments,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Aligned columns, for people
    Table,
    /// Comma-separated values with a heading line
    Csv,
    /// One JSON document: rows and unreadable images
    Json,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let store = arguments.store.open_existing()?;
    let record = crate::runs::find(&store.runs_folder(), &arguments.run)?;
    let file = super::show::model_of(&store, &record, arguments.stage.as_deref())?;
    let paths = images(&arguments.images)?;
    let model = Model::open(&file)?;
    let predictions = classify(&model, &paths, usize::from(arguments.top))?;
    let format = if arguments.json { Format::Json } else { arguments.format };
    match format {
        Format::Table => ui::out(&table(&predictions.rows))?,
        Format::Csv => ui::out(&csv(&predictions.rows)?)?,
        Format::Json => ui::json(&predictions)?,
    }
    for Unreadable { path, reason } in &predictions.unreadable {
        ui::warning(&format!("{path} is left out: {reason}"));
    }
    if predictions.rows.is_empty() {
        return Err(Failure::failed("none of the images could be read"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The images meant by `named`, in its order, folders replaced by their images in the order of their paths.
fn images(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for path in named {
        if !path.is_dir() {
            if !path.exists() {
                return Err(Failure::failed(format!(
                    "there is no file or folder {}",
                    path.display()
                )));
            }
            found.push(path.clone());
            continue;
        }
        let before = found.len();
        for entry in
            walkdir::WalkDir::new(path).sort_by_file_name().into_iter().filter_entry(is_shown)
        {
            let entry = entry.map_err(|error| Failure::failed(error.to_string()))?;
            if entry.file_type().is_file() && is_image(entry.path()) {
                found.push(entry.into_path());
            }
        }
        if found.len() == before {
            return Err(Failure::failed(format!("no images in {}", path.display()))
                .help(format!("files ending in one of {} are looked for", EXTENSIONS.join(", "))));
        }
    }
    Ok(found)
}

/// Hidden files and folders hold thumbnails and notes, not images. The folder named by the user is always searched.
fn is_shown(entry: &walkdir::DirEntry) -> bool {
    entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
}

/// Whether the name is a image's.
fn is_image(path: &Path) -> bool {
    let extension =
        path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

fn classify(model: &Model, paths: &[PathBuf], top: usize) -> Result<Predictions, Failure> {
    let mut all = Predictions::default();
    for portion in paths.chunks(PORTION) {
        let mut readable = Vec::with_capacity(portion.len());
        for path in portion {
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
        all.unreadable.extend(predictions.unreadable);
    }
    Ok(all)
}

/// A line a image: its likeliest class, and the next ones beside it.
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

/// A line a image and rank.
fn csv(rows: &[Row]) -> Result<String, Failure> {
    let wrong = |error: csv::Error| Failure::failed(error.to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["path", "rank", "class", "probability"]).map_err(wrong)?;
    for row in rows {
        for (rank, (class, probability)) in row.top.iter().enumerate() {
            let (rank, probability) = ((rank + 1).to_string(), probability.to_string());
            writer.write_record([&row.path, &rank, class, &probability]).map_err(wrong)?;
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
    fn answers_as_a_table() {
        let rows =
            [row("a.jpg", &[("shirt", 0.875), ("coat", 0.0625)]), row("b.jpg", &[("dress", 1.0)])];
        // The columns of what comes next are there only where more than one class was asked for.
        assert_eq!(table(&rows[1..]), "image  class  probability\nb.jpg    dress      100.0 %\n");
        assert!(table(&rows).starts_with(
            "image  class  probability  next\na.jpg    shirt       87.5 %  coat 6.2 %\n"
        ));
    }

    #[test]
    fn answers_as_csv_quote_what_must_be() {
        let rows = [row("a,b.jpg", &[("shirt", 0.875), ("coat", 0.0625)])];
        let text = csv(&rows).unwrap();
        assert_eq!(
            text,
            "path,rank,class,probability\n\"a,b.jpg\",1,shirt,0.875\n\"a,b.jpg\",2,coat,0.0625\n"
        );
    }

    #[test]
    fn folders_are_searched_in_order_without_hidden_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.JPG", "a.png", ".hidden.jpg", "notes.txt", "sub/c.webp", ".thumbs/d.jpg"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        let found = images(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> =
            found.iter().map(|path| path.strip_prefix(folder.path()).unwrap().to_owned()).collect();
        assert_eq!(names, [Path::new("a.png"), Path::new("b.JPG"), Path::new("sub/c.webp")]);
        assert!(images(&[folder.path().join("none")]).is_err());
        assert!(images(&[folder.path().join(".thumbs/../sub")]).is_ok());
    }
}
