# Makes the table of card.sh from the lines that its parts print. Every line of the result is for Markdown.

BEGIN {
    CONVOLUTIONS = "Convolutions by cuDNN against naive kernels"
    PARITY = "Relative distance from f64"
    SPEED = "Images per second"
    STREAMING = "Streaming from a tensor cache"
    LAUNCHES = "Dearest launches"
    SMALL = "Small network for compute-sanitizer"
}

function row(text) { rows[section] = rows[section] "| " text " |\n" }

function heading(name, columns,    line) {
    section = name
    if (name in rows) return
    line = columns
    gsub(/[^|]+/, " --- ", line)
    rows[name] = "\n## " name "\n\n| " columns " |\n|" line "|\n"
}

# a / b with two decimals, where both are numbers.
function ratio(a, b) { return a + 0 > 0 && b + 0 > 0 ? sprintf("%.2f", a / b) : "" }

function shown(value) { return value == "" ? "-" : value }

# What is measured by several is one row: its key in the order of its first line, its values by who measured them.
function measured(table, key, whose, value) {
    if (!((table, key) in seen)) {
        seen[table, key] = 1
        keys[table, ++count[table]] = key
    }
    values[table, key, whose] = value
}

$1 == "part" { heading("Parts", "part | result | s"); row($2 " | " $3 " | " $4) }
$1 == "environment" { heading("Environment", "what | value"); row($2 " | " $3) }
$1 == "convolutions" {
    heading(CONVOLUTIONS, "precision | convolutions | largest distance | bound")
    row($2 " | " $3 " | " $4 " | " $5)
}
$1 == "parity" { measured("parity", $2 " | " $3 " | " $4, $5, $6) }
$1 == "speed" { measured("speed", $2 " | " $5 " | " $4 " | " $3, $6, $7) }
$1 == "profile" {
    heading(LAUNCHES, "launch | times | ms | %")
    row($2 " | " $3 " | " $4 " | " $5)
}
$1 == "streaming" { heading(STREAMING, "what | value"); row($2 " | " $3) }
$1 == "small" { heading(SMALL, "precision | result"); row($2 " | " $3) }

END {
    for (i = 1; i <= count["parity"]; i++) {
        heading(PARITY, "network | precision | what | pipe | PyTorch | pipe / PyTorch")
        key = keys["parity", i]
        own = values["parity", key, "pipe"]
        other = values["parity", key, "torch"]
        row(key " | " shown(own) " | " shown(other) " | " ratio(own, other))
    }
    for (i = 1; i <= count["speed"]; i++) {
        heading(SPEED, \
            "network | mode | precision | batch | pipe | PyTorch | torch.compile | pipe / PyTorch | pipe / compiled")
        key = keys["speed", i]
        own = values["speed", key, "pipe"]
        other = values["speed", key, "torch"]
        compiled = values["speed", key, "compile"]
        row(key " | " shown(own) " | " shown(other) " | " shown(compiled) " | " ratio(own, other) " | " \
            ratio(own, compiled))
    }
    print "# Training on a GPU"
    names = "Environment|Parts|" CONVOLUTIONS "|" PARITY "|" SPEED "|" STREAMING "|" LAUNCHES "|" SMALL
    sections = split(names, order, "|")
    for (i = 1; i <= sections; i++) if (order[i] in rows) printf "%s", rows[order[i]]
}
