# Rule for stage 0, if a study asks for it. PREPARE holds its options, and PREPARED its files.

if PREPARE:

    rule prepare:
        input:
            files_in(PREPARE),
        output:
            update(PREPARED),
        params:
            options=quoted(PREPARE),
        log:
            f"{LOGS}/prepare.log",
        message:
            "stage 0, the data set; log: {log}"
        shell:
            "{PYTHON}prepare_dataset.py {params.options} > {log} 2>&1"
