#!/bin/sh
# demo.sh - make demo: a scene is drawn, its masks are inverted with the default model, the results lie in demo/.
seed=${SEED:-10} size=${SIZE:-320}
rm -rf demo
./maskinv scenes --kind drawn --objects 3 --count 1 --seed "$seed" --size "$size" -o demo/scene || exit 1

# The names in the scene, and some that are not in it, as "a photo of a NAME".
names=$(grep -o '"name":"[^"]*"' demo/scene/scenes.jsonl | cut -d'"' -f4)
set --
for mask in demo/scene/masks/*.png; do set -- "$@" -k "$mask"; done
for name in $(printf '%s\nfish\nhouse\ntree\numbrella\nclock\ncat\nkey\nsailboat\n' "$names" | tr ' ' '_' | awk '!seen[$0]++'); do
    set -- "$@" -t "$(echo "a photo of a $name" | tr _ ' ' | sed 's/ a \([aeiou]\)/ an \1/')"
done
./maskinv invert -i demo/scene/images/000000.png "$@" --size 96 -o demo/regions || exit 1

# The same embeddings told by the captioner, which learned from whole pictures.
set --
for mask in demo/scene/masks/*.png; do set -- "$@" -k "$mask"; done
echo
./maskinv caption -i demo/scene/images/000000.png "$@" --size 96 || exit 1
# And drawn by the generator, which learned from whole pictures too.
./maskinv imagine -i demo/scene/images/000000.png "$@" --size 96 -o demo/regions || exit 1
cat <<END

Above: each region in a sentence, the region's own object first. Look at demo/regions/regions.png: for each region its mask, what speaks for the whole picture's embedding ("before"),
and what speaks for the region's own ("after"): the heat has moved onto the region. Beside it stand the texts nearest to
that embedding. demo/regions/imagined.png draws each region from its embedding alone, beside the class token's picture. The same maps over the whole picture are demo/regions/*.map.png, the numbers demo/regions/result.json.
The scene has: $(echo $names). It was picked for all three to be named right, as some two in five are; of a thousand scenes'
regions some three in four are, among 54 names (weights/README.md). Another one: SEED=3 make demo
END
