// SPDX-License-Identifier: MIT
/// @file
/// @brief Plots between two children, or between a child and the world outside.
#pragma once

#include <vector>

#include "plot.hpp"

namespace story_grammar {

/// @brief The plots with friends and outdoors.
inline const std::vector<Plot>& friend_plots() {
  static const std::vector<Plot> plots = {
      {"share",
       R"([7*<intro> [2*{A}|{He}] had a [good|best] friend named {B}. ~<one_day>, {A} got a new {playtoy}[ from {his}
{mom}|]|3*<one_day>, a {girl} named {A} showed {his} friend {B} a new {playtoy}]. It was {color} and [very
pretty|just right for {him}]. "[What a nice {playtoy}!|I like your {playtoy}.|Wow!] [Can I play with it too|May I try
it]?" asked {B}. "No!" said {A}. "It is mine[!|, only mine!]" {B} [looked at the ground|felt sad|did not say a word]
and went home.
~{A} played with the {playtoy} alone. But [soon {he} stopped|after a while it was not fun any more]. [There was no
one to laugh with.|It was too quiet.|] ["I was not kind to {B}," {A} thought.|{A} missed {B}.|{A} thought of {B}'s
sad face and felt bad.]
~{He} [ran|went] to {B}'s house. "I am sorry, {B}," said {A}. "[Please come and play with me|You can play with it
too]." "[That is all right|Thank you, {A}|I am not angry]," said {B}. They [took turns|played] with the {playtoy}
<played_on>.
~[3*<both_learned> [it is good to share|things are more fun when you share them].|2*From that day on, {A} and {B}
shared all their toys.|{A} was glad to have such a good friend.]{+Conflict})",
       R"({A} does not want to share a new {playtoy} with {B}. Playing alone is no fun, so {A} says sorry and they
share it.)"},

      {"learn",
       R"(<skill=[#skill ride a bike|swim|skate|climb the big tree|jump rope|catch a ball]>[7*<intro> [2*{A}|{He}]
wanted to {skill}. {His} friend {B} could {skill} [very well|already], but {A} could not.|3*One day, a {girl} named
{A} saw {his} friend {B} {skill}. "I want to do that too!" said {A}.]
~[#skill {A} got on the bike|{A} jumped into the water|{A} put on the skates|{A} held on to the first branch|{A} took
the rope|{A} held out {his} hands] and tried. But [#skill {he} fell off|{he} got water in {his} nose|{he} fell
down|{he} slid back down|{he} got the rope around {his} legs|the ball fell on the ground]. {He} tried again, and it
[happened|was the same] again. {A} <sad>. "I will never learn it," {he} said.
~"[I will help you|It was hard for me too]," said {B}. "[#skill I will hold the bike.|I will hold your hands.|I will
hold your hands.|I will show you where to put your feet.|I will turn the rope slowly.|I will throw it softly.]" So
they tried [every day|again and again].
~[At last, it worked|Then one day, {A} did it]! [#skill {A} rode all the way down the street.|{A} swam from one side
to the other.|{A} skated all around the pond.|{A} sat at the top of the tree.|{A} jumped ten times.|{A} caught the
ball with both hands.] "Look, {B}! I can do it!" {he} [shouted|called]. {B} [clapped {his2} hands|jumped for joy|was
very proud of {him}]. [3*<learned> [you must not give up|hard things get easy when you keep trying].|"Thank you for
your help," said {A}.|{A} was [proud|very proud]. Now {he} could {skill}, just like {B}.])",
       R"({A} wants to {skill} but cannot do it. {B} helps, they try again and again, and in the end it works.)"},

      {"kite",
       R"([7*<intro> [2*{A}|{He}] had a friend named {B}. <one_day>, they went to the park with a [big|long|] {color}
kite|3*One windy day, a {girl} named {A} and {his} friend {B} took a [big|long|] {color} kite to the park]. {A} held
the string. But the wind pulled [hard|and pulled], and {A} let go. [Up, up, up it went, and it|It flew up and] got
stuck in a [tall|big] tree!
~"I am sorry, {B}," said {A}. "[It is not your fault|Do not be sad]," said {B}. [{A} jumped, but {he} was too
small.|They threw a stick, but the stick got stuck too.|{A} shook the tree, but only leaves fell down.|They tried to
climb up, but the tree was too tall.] They [did not know what to do|were very sad].
~Just then, [#help a tall man came by with a ladder|a squirrel ran up the tree|a girl with a very long pole came by].
[#help "Can you help us, please?" asked {A}.|"Look at the squirrel!" said {A}.|"Can you help us, please?" asked {B}.]
[#help The man put the ladder on the tree and climbed up.|It bit the string with its sharp teeth.|The girl pushed the
branch with the pole.] And down came the kite! [2*"Thank you!" said {A} and {B}.|]
~[This time, they held the string together.|This time, {B} tied the string to {A}'s hand.] [3*<both_learned> [it is
good to ask for help|friends do not get angry over small things].|And the kite did not fly away again.|The kite
danced in the sky <played_on>.])",
       R"({A} lets go of a kite and it gets stuck in a tree. {A} and {B} cannot get it, but [#help a man with a
ladder|a squirrel|a girl with a pole] gets it down.)"},

      {"false_alarm",
       R"([7*<intro> [2*{A}|{He}] liked to play [jokes|tricks]. {His} best friend was named {B}. ~<one_day>, they
played|3*<one_day>, a {girl} named {A} and {his} friend {B} played] [#where near the pond|in the woods|by the river].
{A} hid [behind a tree|in the tall grass] and called, "Help! [There is a wolf!|I fell into a hole!|My foot is
stuck!]" {B} ran to help, but {A} only laughed. "[That is not funny|I was scared]," said {B}.
~[Soon|After a while], {A} did it again. {B} came running, and {A} laughed. {B} [was angry and walked away|went
away].
~Then {A} stepped into [#where the deep mud at the pond|a deep hole in the woods|the deep mud at the river]. {He}
could not get out! "Help, {B}!" {he} [called|cried]. But {B} thought it was [a joke again|only a joke]. {A} began to
cry[ and could not stop|]. [When {B} heard that, {he2}|Then {B} saw that it was no joke. {He2}] ran back and pulled
{him} out[ with a long stick| with both hands|].
~"[I am so sorry|I am sorry], {B}," said {A}. "I will not trick you again." [3*<learned> nobody believes you when you
[often |]tell lies.|From that day on, {A} only called for help when {he} needed it.|And {A} kept {his}
word.]{+Conflict})",
       R"({A} calls for help as a joke and tricks {B} two times. When {A} really needs help, {B} does not believe
{him} at first.)"},

      {"new_child",
       R"([7*<intro> One day, a new {girl2} named {B} came to {his} school.|3*One day, a new {girl2} named {B} came
to school. A <trait> {girl} named {A} saw {him2} at the door.] {He2} did not know anyone and was [very |]shy. The
other children [ran and played|played with a ball], but {B} sat all alone [on a bench|under a tree].
~{A} [remembered|thought of] {his} own first day at school. {He} [went over|walked up] to {B}. "Hello, I am {A},"
{he} said. "[Would you like to|Do you want to] [#game play tag|draw with me|play with my ball|dig in the sand]?" "[I
do not know how|I am not good at it]," said {B} [softly|in a small voice]. "I will show you," said {A}.
~So they [#game ran around the yard, and {B} was very fast|drew a big house, and {B} drew a funny cat|played with the
ball, and {B} could kick it very far|dug a deep hole, and {B} made a road around it]. [Soon {B} laughed out
loud.|Soon {B} was not shy any more.|]
~"[Thank you, {A}|Today was a good day]," said {B}. "[Now I have a friend|I was so alone before]." [3*<learned> a few
kind words can make a new friend.|2*The next day, they sat on the bench together.|From that day on, {A} and {B} were
good friends.])",
       R"({B} is new at school and very shy. {A} asks {him2} to [#game play tag|draw|play ball|dig in the sand],
and they become friends.)"},

      {"snowman",
       R"([7*<intro> [2*{A}|{He}] had a {sister2} named {B}. ~One [cold |winter |]morning, {A} looked out of the
window.|3*One [cold|winter] morning, <a_girl> looked out of the window and called {his} {sister2} {B}.] "[Snow!
Everything is white!|It snowed in the night!]" {he} said. {A} and {B} ran outside and made a big snowman with a
{nose} for a nose and [two stones|two buttons] for eyes. [#cold "He must be cold," said {A}, and gave him a hat.|"He
needs a friend," said {A}, and they made a snow dog too.]
~After [three days|a week], the sun was warm. The snowman got smaller [and smaller|every hour]. Then [#cold only a
hat|only two little balls of snow] lay on the grass. {B} began to cry. "Do not cry," said {A}. "[#where He is water
now, and the water helps the flowers|He is up in the clouds now, and he will come back next winter]."
~[#where In the spring, {color} flowers grew just where the snowman had been. "Look, {B}!" said {A}. "[He said
hello|They are from the snowman]!"|The next winter, it snowed again. "Look, {B}! [He came back|There he is]!" said
{A}. They made an even bigger snowman.] [2*{+MoralValue}[{A} and {B} learned that|That day, {A} and {B} learned that]
[good things can come back|things change, but good days come again].|{B} was not sad any more.|{B} laughed and
danced.])",
       R"({A} and {B} make a snowman. It melts and {B} is sad, but [#where flowers grow where it stood|it comes
back the next winter].)"},

      {"lost_outside",
       R"([7*<intro> <one_day>, {A} went to the [#place market|woods|beach|zoo] with {his} {mom}.|3*<one_day>,
<a_girl> went to the [#place market|woods|beach|zoo] with {his} {mom}.] "If you get lost, stand still and wait for
me," said {his} {mom}.
~Then {A} saw a {color} {insect}. [It was so pretty!|] {He} [ran after it|followed it]. [#place It flew past the
{stall} and past the big clock.|It flew past the old tree and over a stone.|It flew past the boats and over the
sand.|It flew past the lions and past the monkeys.] Then it flew up into the sky and was gone. {A} could not see
{his} {mom} [any more|anywhere]!
~{A} <scared>. {He} wanted to run. But {he} [remembered|thought of] {his} {mom}'s words and stood still [#place next
to the big clock|under the old tree|next to a blue boat|in front of the monkeys]. [{He} counted to ten.|{He} sang a
song to be brave.|2*]
~[Then|At last] {he} heard a voice. "{A}! [There you are|Here you are]!" {His} {mom} came running and <hugged>. "You
did [just |]the right thing." [3*<learned> you should stand still and wait when you are lost.|2*All the way home, {A}
held {his} {mom}'s hand.|"I will not run away again," said {A}.])",
       R"({A} follows a {insect} and gets lost. {He} stands still and waits, and {his} {mom} finds {him}.)"},

      {"moon",
       R"([7*<intro> [2*{A}|{He}] loved to look at the [moon|moon and the stars]. ~One [clear|warm|quiet] night,
{A}|3*One [clear|warm|quiet] night, <a_girl>] went to the pond with {his} {mom}. There was the moon, in the water!
"The moon fell down!" {he} [said|shouted]. "I will [get it out|save it]."
~[#tool {A} took a net and put it in the water.|{A} took a bucket and put it in the water.|{A} put both hands in the
water.] But the moon [broke into [many|a hundred] pieces|danced away]. {A} tried again[ and again|]. [#tool The net
was full of leaves, but there was no moon in it.|The bucket was full of water, but there was no moon in it.|{His}
hands were wet, but there was no moon in them.] {A} <sad>.
~{His} {mom} [sat down next to {him}|smiled]. "Look up, {A}," said {his} {mom}. There was the moon, [high in the
sky|big and round]! "It [was there all the time|never fell down]," said {his} {mom}. "The water is like a mirror."
~{A} laughed too. ["Good night, moon!" {he} said.|Then they walked home, and the moon came with them.] [<learned>
[things are not always what they seem to be|it is good to look again and ask].|That night, {A} dreamed of the
moon.|{A} was glad that the moon was safe.]{+Twist})",
       R"({A} sees the moon in the pond and wants to save it. {His} {mom} shows {him} that the moon is still in the
sky.)"},
  };
  return plots;
}

}  // namespace story_grammar
