"""Commands of the record in their order: pairs of a name and a command line.

They run in one empty folder, so that each may use files of earlier ones. A row of ``BAD_CALLS`` must
end with exit code 2, every other row with 0.
"""

Commands = list[tuple[str, str]]

ANSWERS = """\
model,image,label,human0,human1,mse,ssim
plain,0,3,3,3,0.01,0.9
plain,1,5,5,-1,0.02,0.7
plain,2,1,1,1,0.04,0.8
crop,0,3,-1,2,0.05,0.4
crop,1,5,-1,-1,0.09,0.1
crop,2,1,1,-1,0.03,0.5
"""
"""The file answers.csv, where the commands start: what people recognised in images."""

SHOP = "--dataset shop"
ON_CPU = "--gpu -1"
PICTURES = "--images data/shop/extractor/images --labels data/shop/extractor/labels.csv"
PLAIN = f"{SHOP} --model_file models/plain/net.pt {ON_CPU}"
FREE = f"{SHOP} --defense 1 --model_dir free --model_file net.pt {ON_CPU}"
ATTACK = "--origin_class 1 --target_class 0"
PGD = "--attack_type pgd --eps 8 --nb_iter 6"
FGSM = "--attack_type fgsm --eps 8"
NOISE = "--attack_type noise --eps 8"
PGD_NAME = "pgd_1_0_eps8.0_eps_it8.0_nb_it6_linf"
NOISE_NAME = "noise_1_0_eps8.0_linf"
LISTS = f"{SHOP} --epoch 2 --topk 30 {ON_CPU}"

PREPARATION: Commands = [
    ("demo", f"prepare_dataset.py demo {SHOP} --items 60 --users 40 --size 32 --per_class 16"),
    (
        "prepare a folder",
        "prepare_dataset.py folder --dataset copy --images data/shop/original/images"
        " --interactions data/shop/trainingset.tsv",
    ),
    (
        "prepare interactions",
        "prepare_dataset.py interactions --dataset pairs"
        " --train data/shop/trainingset.tsv --test data/shop/testset.tsv --validation_split",
    ),
]

EXTRACTORS: Commands = [
    (
        "train plain",
        f"train_extractor.py {PICTURES} --recipe plain --arch cifar_resnet8 --epochs 20 --batch 16"
        f" --out models/plain/net.pt {ON_CPU}",
    ),
    (
        "train an embedder",
        f"train_extractor.py {PICTURES} --recipe hm --arch c2f2+512 --epochs 1 --batch 16 --steps 2"
        f" --size 28 --out models/embedder/net.pt {ON_CPU}",
    ),
    (
        "train with attention",
        f"train_extractor.py {PICTURES} --recipe arp --arch cifar_resnet8 --epochs 1 --batch 32"
        f" --steps 1 --out models/arp/net.pt {ON_CPU}",
    ),
    (
        "describe a published recipe",
        "train_extractor.py -C cub:rres18ghmetsmi:ptripletN --dry_run",
    ),
    ("classify plain", f"classify_extract.py {PLAIN}"),
    (
        "classify the folder",
        f"classify_extract.py --dataset copy --model_file models/plain/net.pt {ON_CPU}",
    ),
    ("classify again", f"classify_extract.py {PLAIN}"),
]

ATTACKS: Commands = [
    ("pgd", f"classify_extract_attack.py {PLAIN} {ATTACK} {PGD}"),
    ("fgsm", f"classify_extract_attack.py {PLAIN} {ATTACK} {FGSM}"),
    ("noise", f"classify_extract_attack.py {PLAIN} {ATTACK} {NOISE}"),
]

FURTHER_ATTACKS: Commands = [
    (name, f"classify_extract_attack.py {PLAIN} {ATTACK} {options}")
    for name, options in (
        ("fgsm in l1", "--attack_type fgsm --l 1 --eps 2000"),
        ("fgsm in l2", "--attack_type fgsm --l 2 --eps 400"),
        ("pgd in l2", f"{PGD} --l 2 --eps 400"),
        ("pgd untargeted", f"{PGD} --untargeted"),
        ("pgd with restarts", f"{PGD} --restarts 2 --eps 4"),
        ("pgd from the clean image", f"{PGD} --no_rand_init --eps_iter 2"),
        ("pgd in bf16", f"{PGD} --precision bf16"),
        ("pgd with a tuned network", f"{PGD} --fast --seed 1"),
        ("pgd as published", f"{PGD} --fidelity paper"),
        ("fgsm as published", f"{FGSM} --fidelity paper"),
        ("cw", "--attack_type cw --max_it 5 --binary_steps 2 --lr 0.05"),
        ("cw without abort", "--attack_type cw --max_it 5 --binary_steps 1 --abort never"),
        ("cw of cleverhans", "--attack_type cw --max_it 2 --binary_steps 1 --engine cleverhans"),
        ("cw as published", "--attack_type cw --max_it 3 --binary_steps 1 --fidelity paper"),
        ("ddn", "--attack_type ddn --steps 5"),
        ("ddn with a tuned network", "--attack_type ddn --steps 4 --fast"),
        ("spsa", "--attack_type spsa --nb_iter 2 --batch_size 4"),
        ("spsa in l2", "--attack_type spsa --nb_iter 2 --batch_size 4 --l 2 --eps 400"),
        ("nes", "--attack_type nes --queries 20 --pairs 4"),
        ("square", "--attack_type square --queries 20"),
        ("attention attack", "--attack_type attention --nb_iter 2"),
        ("attention kept", "--attack_type attention --nb_iter 2 --attention_weight -1"),
        ("pgd in l1", f"{PGD} --l 1 --eps 2000"),
        ("pgd of cleverhans", f"{PGD} --engine cleverhans --eps 3"),
        ("mifgsm", "--attack_type mifgsm --nb_iter 2"),
        ("apgd", "--attack_type apgd --nb_iter 3"),
        ("annealed", "--attack_type annealed --nb_iter 3"),
        ("pgd on a few", f"{PGD} --items class:2"),
        ("margin", "--attack_type margin --nb_iter 2"),
        ("stepll", "--attack_type stepll --untargeted"),
        ("rstepll", "--attack_type rstepll --untargeted"),
        ("iterll", "--attack_type iterll --nb_iter 2 --untargeted"),
        ("autoattack", "--attack_type autoattack --autoattack fast --untargeted --eps 1"),
        ("noise in l2", "--attack_type noise --l 2 --eps 400"),
        ("noise like ddn", "--attack_type noise --like ddn_1_0_steps5"),
    )
] + [
    ("evaluate_attack, untargeted", f"evaluate_attack.py {PLAIN} {ATTACK} {PGD} --untargeted"),
    ("feature_loss as published", f"feature_loss.py {PLAIN} {ATTACK} {PGD} --fidelity paper"),
]

ATTACK_MEASURES: Commands = [
    ("evaluate_attack", f"evaluate_attack.py {PLAIN} {ATTACK} {PGD}"),
    ("evaluate_attack of noise", f"evaluate_attack.py {PLAIN} {ATTACK} {NOISE}"),
    ("feature_loss", f"feature_loss.py {PLAIN} {ATTACK} {PGD}"),
    ("feature_loss of noise", f"feature_loss.py {PLAIN} {ATTACK} {NOISE}"),
]

RECOMMENDERS: Commands = [
    (
        "recommend",
        f"rec_generator.py {LISTS} --model Pop Random VBPR AMR BPRMF AMF --seed 0 1",
    ),
    (
        "recommend retrained",
        f"rec_generator.py {LISTS} --model VBPR AMR --seed 0 1 --experiment_name {PGD_NAME}",
    ),
    (
        "recommend at test time",
        f"rec_generator.py {LISTS} --model VBPR AMR --seed 0 1"
        f" --experiment_name {PGD_NAME} {NOISE_NAME} --load_weights_from original",
    ),
]

FURTHER_RECOMMENDERS: Commands = [
    *(
        (f"recommend {name}", f"rec_generator.py {LISTS} {options}")
        for name, options in (
            ("with the full forms", "--model VBPR AMR --form full"),
            ("with item biases", "--model BPRMF AMF --item_bias"),
            ("against promotion", "--model VBPR RankAMR"),
            ("AMF against all pairs", "--model AMF --perturb full"),
            ("AMF against bim", "--model AMF --adv_attack bim --adv_steps 2"),
            ("AMF against pgd", "--model AMF --adv_attack pgd --adv_steps 2 --projection box"),
            ("as published", "--model VBPR AMR BPRMF AMF --fidelity paper"),
        )
    ),
    (
        "recommend with other options",
        f"rec_generator.py --dataset copy --epoch 3 --topk 20 --model VBPR AMR BPRMF AMF {ON_CPU}"
        " --emb1_K 8 --lr 0.05 --regs 0.1 --negatives 2 --batch_size 64 --adv_epochs 1 --lmd 0.5"
        " --epsilon 0.3 --reg_reduction mean --verbose 1",
    ),
    (
        "recommend by pixels and by attention",
        f"rec_generator.py {LISTS} --model DVBPR ACF --hidden 8 --lr 0.001 --regs 0.01",
    ),
    ("recommend by a graph", f"rec_generator.py {LISTS} --model LightGCN --layers 2 --lr 0.01"),
    (
        "attack on the lists of pixels",
        f"classify_extract_attack.py {PLAIN} --eps 8 --score_epoch 2 --items random:4"
        " --attack_type fgsm --objective rank --score_model DVBPR",
    ),
    (
        "attack on the lists of buyers",
        f"classify_extract_attack.py {PLAIN} --eps 8 --score_epoch 2 --items random:4 --popularity high"
        " --attack_type fgsm --objective rank --score_model ACF --target_item 46",
    ),
    ("reliance", f"-m audits.reliance {SHOP} --k 10"),
    (
        "recommend with searched values",
        "rec_generator.py --dataset pairs --epoch 2 --topk 10 --model BPRMF --search 'lr=0.02 0.05'"
        f" {ON_CPU}",
    ),
    (
        "recommend the best checkpoint",
        "rec_generator.py --dataset pairs --epoch 4 --topk 10 --model BPRMF --keep best --verbose 2"
        f" {ON_CPU}",
    ),
]

PROMOTION: Commands = [
    *(
        (
            f"attack on {aim}",
            f"classify_extract_attack.py {PLAIN} --eps 8 --score_epoch 2 {options}",
        )
        for aim, options in (
            (
                "ranks",
                f"{ATTACK} --attack_type apgd --nb_iter 2 --objective rank --score_model VBPR",
            ),
            ("scores", "--items random:4 --attack_type fgsm --objective score --score_model AMR"),
        )
    ),
    ("promotion", f"-m audits.promotion {SHOP} --model VBPR AMR --epoch 2 --seed 0 1 --k 10"),
    (
        "bounds of medians",
        f"-m audits.bounds {PLAIN} --score_model VBPR --score_epoch 2 --items random:2 --k 10"
        " --method smoothing --sigma 0.2 --n 10 --eps 2",
    ),
]

LIST_MEASURES: Commands = [
    ("evaluate_rec", f"evaluate_rec.py {SHOP} --metric all --topk 30 --origin 1 --min_items 1"),
    (
        "summarize",
        f"summarize.py {SHOP} --epoch 2 --topk 30 --fidelity corrected --list_of_k 10 20",
    ),
    ("trace a row", "-m audits.trace results/shop/summary.tsv 1"),
    ("zoo", "-m audits.zoo"),
]

AUDITS: Commands = [
    (
        "parameters",
        f"-m audits.parameters {SHOP} --epoch 2 --topk 10 --seed 0 1 --model VBPR AMR BPRMF AMF"
        " --attack fgsm bim pgd --eps 0.25 0.5 --steps 2 --lists",
    ),
    (
        "parameters on features",
        f"-m audits.parameters {SHOP} --epoch 2 --topk 10 --model VBPR --tables features"
        " --negatives sampled --draws 2 --user_share 0.5 --output attack_features",
    ),
    (
        "rankings",
        f"-m audits.rankings {SHOP} --checkpoint models/embedder/net.pt --resize 28 --profile rob28"
        f" --pgditer 2 --max_images 6 --compare results/embedders.tsv hm {ON_CPU}",
    ),
    (
        "rankings with other attacks",
        f"-m audits.rankings {SHOP} --checkpoint models/embedder/net.pt --resize 28 --max_images 4"
        " --attack FOA:M=3:pgditer=2 SPQA:pm=+:M=2:pgditer=2 --compat paper --repeats 2 --no_nmi"
        f" --save_images results/attacked --out results/ranking.tsv {ON_CPU}",
    ),
    (
        "means of embedders",
        "summarize.py --embedders results/embedders.tsv results/embedder_means.tsv",
    ),
    (
        "attention",
        f"-m audits.attention {PLAIN} {ATTACK} {PGD} --score_model VBPR --score_epoch 2"
        " --minimal_eps 4",
    ),
    (
        "robustness",
        f"-m audits.robustness --checkpoint models/plain/net.pt --dataset catalogue --data data/shop"
        " --resize 32 --max_images 4 --autoattack fast --masking --surrogate models/arp/net.pt"
        " --attacks clean fgsm stepll r_stepll iterll pgd20 pgd100 cw keep20 push20 autoattack"
        f" --out results/robust.tsv --compare results/recipes.tsv plain {ON_CPU}",
    ),
    ("means of recipes", "summarize.py --robust_accuracy results/recipes.tsv"),
    ("images", f"-m audits.images score --all {PLAIN}"),
    (
        "images triplets",
        "-m audits.images triplets --images data/shop/original/images --max_images 12"
        " --out results/triplets",
    ),
    (
        "images train",
        "-m audits.images train --triplets results/triplets --arch cifar_resnet8 --epochs 1"
        f" --out models/semsim.pt {ON_CPU}",
    ),
    (
        "images agreement",
        "-m audits.images agreement --labels answers.csv --resamples 20 --out results/agreement.tsv",
    ),
    (
        "leaks",
        "-m audits.leaks --arch lenet_zhu --random_weights --dataset catalogue --data data/shop"
        " --size 32 --n_images 2 --optim inversed --iterations 8 --defence none prune_70"
        f" --out reconstructions {ON_CPU}",
    ),
    (
        "leaks of a checkpoint",
        "-m audits.leaks --checkpoint models/plain/net.pt --dataset catalogue --data data/shop"
        " --size 32 --n_images 2 --optim dlg --iterations 1 --labels analytic"
        f" --out reconstructions --no_grid {ON_CPU}",
    ),
    (
        "images of reconstructions",
        "-m audits.images score --attacked"
        " reconstructions/lenet_zhu_0_inversed_aug_auglist__rlabel_False"
        " reconstructions/lenet_zhu_0_inversed_aug_auglist__rlabel_False_defense_prune_70"
        f" --semsim models/semsim.pt --metrics mse psnr ssim semsim --out results/leaks.tsv {ON_CPU}",
    ),
    (
        "ranks of leaks",
        "summarize.py --leaks results/leaks_conditions.tsv results/leak_ranks.tsv",
    ),
    (
        "convert_checkpoint",
        "-m audits.convert_checkpoint models/plain/net.pt models/converted.pt --i_trust_this_file",
    ),
]

DEFENCE: Commands = [
    (
        "train free",
        f"train_extractor.py {PICTURES} --recipe free --arch cifar_resnet8 --epochs 24 --batch 16"
        f" --replays 2 --eps 2 --out models/free/net.pt {ON_CPU}",
    ),
    ("classify free", f"classify_extract.py {FREE}"),
    ("pgd on free", f"classify_extract_attack.py {FREE} {ATTACK} {PGD}"),
    (
        "pgd of the plain network on free",
        f"classify_extract_attack.py {FREE} --attack_type given --images_from {PGD_NAME}",
    ),
    ("noise on free", f"classify_extract_attack.py {FREE} {ATTACK} {NOISE}"),
    ("evaluate_attack on free", f"evaluate_attack.py {FREE} {ATTACK} {PGD}"),
    ("evaluate_attack of noise on free", f"evaluate_attack.py {FREE} {ATTACK} {NOISE}"),
    ("feature_loss on free", f"feature_loss.py {FREE} {ATTACK} {PGD}"),
    ("feature_loss of noise on free", f"feature_loss.py {FREE} {ATTACK} {NOISE}"),
    ("classify through jpeg", f"classify_extract.py {PLAIN} --preprocess jpeg:quality=50"),
    (
        "pgd through jpeg",
        f"classify_extract_attack.py {PLAIN} {ATTACK} {PGD} --preprocess jpeg:quality=50",
    ),
    (
        "pgd that does not know jpeg",
        f"classify_extract_attack.py {PLAIN} {ATTACK} {PGD} --preprocess jpeg:quality=50 --unaware",
    ),
    (
        "recommend after the defence",
        f"rec_generator.py {LISTS} --model VBPR --seed 0 1"
        f" --experiment_name free_original free_{PGD_NAME} free_{NOISE_NAME}",
    ),
    (
        "recommend after the defence, at test time",
        f"rec_generator.py {LISTS} --model VBPR --seed 0 1"
        f" --experiment_name free_{PGD_NAME} free_{NOISE_NAME} --load_weights_from free_original",
    ),
    (
        "rankings of an extractor",
        f"-m audits.rankings {SHOP} --checkpoint models/free/net.pt --pgditer 1 --max_images 4"
        f" --out results/shop/attack_ranking_free.tsv {ON_CPU}",
    ),
    (
        "summarize with extractors",
        f"summarize.py {SHOP} --epoch 2 --topk 30 --fidelity corrected --list_of_k 10"
        " --extractors free",
    ),
]
"""The main path once more with defended extractors."""

_MANY = f"--dataset many --model_file models/plain/net.pt {ON_CPU}"
DETECTION: Commands = [
    (
        "demo of many items",
        "prepare_dataset.py demo --dataset many --items 260 --users 20 --size 32 --per_class 1",
    ),
    ("classify many", f"classify_extract.py {_MANY}"),
    ("pgd on a few of many", f"classify_extract_attack.py {_MANY} {ATTACK} {PGD} --items class:4"),
    (
        "pgd that evades a detector",
        f"classify_extract_attack.py {_MANY} {ATTACK} {PGD} --items class:4 --evade neighbours:k=5",
    ),
    ("detection", f"-m audits.detection {_MANY}"),
    (
        "classify through noise",
        f"classify_extract.py {_MANY} --preprocess random_noise:sigma=0.02",
    ),
    (
        "pgd through noise",
        f"classify_extract_attack.py {_MANY} {ATTACK} {PGD} --items class:4"
        " --preprocess random_noise:sigma=0.02 --eot 2",
    ),
]
"""Detectors, which need many clean images, and a random defence."""

REPORT: Commands = [
    ("report", f"report.py {SHOP} --topk 20 --epoch 2 --fidelity corrected"),
]

BAD_CALLS: Commands = [
    ("prepare_dataset, no source", "prepare_dataset.py"),
    ("prepare_dataset, too small", "prepare_dataset.py demo --items 1 --dataset none"),
    ("prepare_dataset, no tables", "prepare_dataset.py interactions --dataset none"),
    ("train_extractor, unknown recipe", f"train_extractor.py {PICTURES} --recipe none_such"),
    ("train_extractor, nowhere to write", f"train_extractor.py {PICTURES} {ON_CPU}"),
    ("train_extractor, two lengths", "train_extractor.py --epochs 1 --units 1"),
    (
        "train_extractor, no margin",
        "train_extractor.py --arch c2f2+512 --recipe none --loss nca --margin 1 --dry_run",
    ),
    ("classify_extract, no data set", "classify_extract.py --dataset none"),
    ("classify_extract, no checkpoint", f"classify_extract.py {SHOP} --model_file none.pt {ON_CPU}"),
    ("attack, unknown", f"classify_extract_attack.py {PLAIN} --attack_type none_such"),
    ("attack, refused", f"classify_extract_attack.py {PLAIN} --attack_type jsma"),
    ("attack, no such class", f"classify_extract_attack.py {PLAIN} --origin_class 99"),
    ("attack, step beyond eps", f"classify_extract_attack.py {PLAIN} {ATTACK} --eps_iter 9"),
    ("attack, no data set", f"classify_extract_attack.py --dataset none {ATTACK}"),
    ("evaluate_attack, not attacked", f"evaluate_attack.py {PLAIN} {ATTACK} --eps 3"),
    ("feature_loss, not attacked", f"feature_loss.py {PLAIN} {ATTACK} --eps 3"),
    ("rec_generator, unknown model", f"rec_generator.py {SHOP} --model none_such"),
    ("rec_generator, two rates", f"rec_generator.py {SHOP} --lr 1 2"),
    ("rec_generator, no data set", "rec_generator.py --dataset none"),
    ("rec_generator, no features", f"rec_generator.py {SHOP} --experiment_name fgsm_5_6_none"),
    ("rec_generator, no experiment", f"rec_generator.py {SHOP} --experiment_name nothing"),
    ("evaluate_rec, no such metric", f"evaluate_rec.py {SHOP} --metric none_such"),
    ("evaluate_rec, K beyond the lists", f"evaluate_rec.py {SHOP} --topk 30 --list_of_k 31"),
    ("evaluate_rec, no lists", f"evaluate_rec.py {SHOP} --topk 29"),
    ("summarize, K beyond", f"summarize.py {SHOP} --topk 30 --fidelity corrected --list_of_k 31"),
    ("summarize, no data set", "summarize.py --dataset none"),
    ("trace, no row", "-m audits.trace results/shop/summary.tsv 0"),
    ("trace, no table", "-m audits.trace results/none/summary.tsv 1"),
    ("report, no data set", "report.py --dataset none"),
    ("promotion, blind", f"-m audits.promotion {SHOP} --model BPRMF --epoch 2"),
    ("reliance, no data set", "-m audits.reliance --dataset none"),
    ("bounds, no recommender", f"-m audits.bounds {PLAIN}"),
    ("zoo, no such network", "-m audits.zoo --verify none_such"),
    ("leaderboard, no entry", "-m audits.leaderboard evaluate none_such"),
    ("detection, no such detector", f"-m audits.detection {PLAIN} --detector none_such"),
    ("parameters, not trained", f"-m audits.parameters {SHOP} --epoch 77"),
    ("parameters, no features", f"-m audits.parameters {SHOP} --epoch 2 --model BPRMF --tables features"),
    ("rankings, unknown attack", f"-m audits.rankings {SHOP} --attack XX:pm=+"),
    ("rankings, half a folder", f"-m audits.rankings {SHOP} --images data/shop"),
    ("attention, not attacked", f"-m audits.attention {PLAIN} {ATTACK} --eps 3"),
    ("attention, no share", f"-m audits.attention {PLAIN} {ATTACK} {PGD} --share 2"),
    ("robustness, unknown attack", "-m audits.robustness --data none --attacks none_such"),
    ("robustness, no set", "-m audits.robustness --data none --dataset catalogue"),
    ("images, two kinds", "-m audits.images score --attacked none --all"),
    ("images, no data set", "-m audits.images score --dataset none"),
    ("leaks, no network", "-m audits.leaks --data none"),
    ("leaks, no preset", "-m audits.leaks --data none --arch lenet --epochs 0 --optim x"),
    ("convert_checkpoint, not trusted", "-m audits.convert_checkpoint models/plain/net.pt models/out.pt"),
    ("convert_checkpoint, no file", "-m audits.convert_checkpoint none.pt out.pt --i_trust_this_file"),
]  # fmt: skip

EVERYTHING: Commands = [
    *PREPARATION,
    *EXTRACTORS,
    *ATTACKS,
    *FURTHER_ATTACKS,
    *ATTACK_MEASURES,
    *RECOMMENDERS,
    *FURTHER_RECOMMENDERS,
    *PROMOTION,
    *LIST_MEASURES,
    *AUDITS,
    *DEFENCE,
    *DETECTION,
    *REPORT,
    *BAD_CALLS,
]

_FURTHER = (*FURTHER_ATTACKS, *FURTHER_RECOMMENDERS, *DEFENCE, *DETECTION)
NAMED: Commands = [row for row in EVERYTHING if row not in _FURTHER]
"""Commands whose names and columns a test compares."""
